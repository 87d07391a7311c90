"""A network's memory with a model of meaning: a stand-in that knows synonyms, or the real one."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from mesh.costs.ledger import Spender
from mesh.db.vectors import DIMENSIONS
from mesh.memory.embedding import Embedder, Embedding
from mesh.memory.queries import Answers
from mesh.memory.recall import recall, remembered
from mesh.memory.service import Memory
from mesh.memory.views import Meaning
from tests.integration.tasks.core import Core


class Synonyms(Embedder):
    """An embedder: texts are near each other as far as they have words in common, or words that mean the same."""

    model = "synonyms"

    def __init__(self, **meanings: str) -> None:
        self.meanings = meanings
        self.embedded: list[str] = []
        self._places: dict[str, int] = {}

    def embed(self, texts: Sequence[str], _spender: Spender | None = None) -> list[list[float]]:
        self.embedded += texts
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        vector = [0.0] * DIMENSIONS
        for word in re.findall(r"\w+", text.lower()):
            meant = self.meanings.get(word, word)
            vector[self._places.setdefault(meant, len(self._places))] += 1
        length = math.hypot(*vector) or 1
        return [value / length for value in vector]

    def meaning_of(self, text: str, _spender: Spender | None = None) -> Meaning:
        """As a search is told."""
        return Meaning(self.model, self.vector(text))


class Straight:
    """`Jobs` that go to `answers` in a thread of their own, as through a broker to a worker; None: to nobody."""

    def __init__(self, answers: Answers | None, error: Exception | None = None) -> None:
        self.sent = 0
        self._answers = answers
        self._error = error

    def send(self, _name: str, payload: Mapping[str, Any], **_: object) -> None:
        self.sent += 1
        if self._error:
            raise self._error
        if self._answers:
            Thread(target=self._answers.answer, kwargs=dict(payload)).start()


class At:
    """`Shared` by a client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def ask(self, question: Callable[[Redis], Any], /) -> Any:  # noqa: ANN401  # what the question answers
        return question(self._redis)


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
