"""A network's memory with a model of meaning: a stand-in that knows synonyms, or the real one."""

import math
import re

import pytest
from sqlalchemy import text

from mesh.db.vectors import DIMENSIONS
from mesh.memory.embedding import Embedding
from mesh.memory.recall import recall, remembered
from mesh.memory.service import Memory
from mesh.memory.views import Meaning
from tests.integration.tasks.core import Core


class Synonyms:
    """An embedder: texts are near each other as far as they have words in common, or words that mean the same."""

    model = "synonyms"

    def __init__(self, **meanings: str) -> None:
        self.meanings = meanings
        self.embedded: list[str] = []
        self._places: dict[str, int] = {}

    def embed(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        vector = [0.0] * DIMENSIONS
        for word in re.findall(r"\w+", text.lower()):
            meant = self.meanings.get(word, word)
            vector[self._places.setdefault(meant, len(self._places))] += 1
        length = math.hypot(*vector) or 1
        return [value / length for value in vector]

    def meaning_of(self, text: str) -> Meaning:
        """As a search is told."""
        return Meaning(self.model, self.vector(text))


def recalled(core: Core, network: str, about: str, task_id: str = "") -> list[str]:
    """What an agent is reminded of."""
    asked = text(f"SELECT {remembered(':network', ':about')}")
    now = core.clock()
    with core.database.begin(atomic=False) as work:
        fitting = work.connection.execute(asked, {"network": network, "about": about, "now": now}).scalar()
        items = recall(work.connection, fitting, network_id=network, task_id=task_id, about=about, now=now)
    return [item.content for item in items]


@pytest.fixture
def network(core: Core) -> str:
    return core.network("content")


@pytest.fixture
def synonyms() -> Synonyms:
    return Synonyms(buyers="customers", clients="customers")


@pytest.fixture
def memory(core: Core, synonyms: Synonyms) -> Memory:
    """Searched by words and synonyms."""
    return Memory(core.database, core.clock, synonyms.meaning_of)


@pytest.fixture
def embedding(core: Core, synonyms: Synonyms) -> Embedding:
    return Embedding(core.database, synonyms, core.clock)
