"""`make bench-memory`: searching memory, with a million items in one network and spread over ten thousand.

Items are made up: vectors in 1,000 clusters, words of a Zipf vocabulary.  Searches go through the service, as the API
calls it, with the vector of the query given.  Recall is of searches without words, against exact comparison.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import extensions
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from mesh.clock import now
from mesh.costs.ledger import Spender
from mesh.db import engine as engines
from mesh.db.migrate import upgrade
from mesh.db.unit_of_work import Database
from mesh.db.vectors import DIMENSIONS, GRAPH
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.memory.embedding import Embedder, Embedding
from mesh.memory.sameness import said
from mesh.memory.search import literal
from mesh.memory.service import Memory
from mesh.memory.views import LEAST_SIMILARITY, Filters, Meaning, NewMemory
from mesh.security.principal import Principal, Role, Scope

ANN = Principal("ann", Role.USER, frozenset(Scope))
MODEL = "made-up"
CLUSTERS = 1_000
VOCABULARY = 5_000
WORDS = 20  # of an item
MIDDLE = 20_000  # items of one network among all the others
CHUNK = 20_000
TYPES = ("fact", "context", "decision", "feedback")
NO_WORDS = "the"

console = Console()
Vectors = NDArray[np.float32]


class Texts:
    """Made-up contents, vectors and queries; the same in every run."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(7)
        self._centres = self._unit(self.random.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32))
        self.vocabulary = [f"w{chr(97 + number % 26)}{number}x" for number in range(VOCABULARY)]
        shares = 1 / np.arange(1, VOCABULARY + 1)
        self._shares = shares / shares.sum()

    def words(self, count: int, each: int) -> list[str]:
        """`count` texts of so many words each."""
        chosen = self.random.choice(VOCABULARY, (count, each), p=self._shares)
        return [" ".join(self.vocabulary[number] for number in row) for row in chosen]

    def vectors(self, count: int) -> Vectors:
        """Unit vectors near the centres of clusters."""
        return self.near(self._centres[self.random.integers(0, CLUSTERS, count)])

    def near(self, vectors: Vectors) -> Vectors:
        """The same with noise, as unit vectors."""
        noise = self.random.standard_normal(vectors.shape, dtype=np.float32) * np.float32(0.7 / DIMENSIONS**0.5)
        return self._unit(vectors + noise)

    @staticmethod
    def _unit(vectors: Vectors) -> Vectors:
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class MadeUp(Embedder):
    """An embedder that costs nothing."""

    model = MODEL

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def embed(self, texts: Sequence[str], _spender: Spender) -> list[list[float]]:
        """Any vectors."""
        vectors: list[list[float]] = self._texts.vectors(len(texts)).tolist()
        return vectors


@dataclass
class Case:
    """A kind of search: in which networks, for what words, with which filters."""

    name: str
    network: Callable[[], str]
    query: Callable[[], str]
    filters: Filters = Filters()  # noqa: RUF009  # frozen


class Bench:
    """One database and what is asked of it."""

    def __init__(self, engine: Engine, texts: Texts) -> None:
        self._engine = engine
        self._texts = texts
        self._meaning: Meaning | None = None
        self._memory = Memory(Database(engine), now, lambda _text, _spender: self._meaning)

    def ask(self, case: Case, searches: int) -> tuple[float, float, float | None]:
        """p50 and p95 in milliseconds, and recall@10 where there are no words."""
        times: list[float] = []
        found: list[float] = []
        for _ in range(searches):
            network, query = case.network(), case.query()
            vector = self._near_an_item(network)
            self._meaning = Meaning(MODEL, vector)
            begun = time.perf_counter()
            views = self._memory.search(ANN, network, query, limit=10, filters=case.filters)
            times.append((time.perf_counter() - begun) * 1000)
            if query == NO_WORDS and len(found) < searches // 4:
                found.append(self._recall(network, vector, {view.memory_id for view in views}))
        p50, p95 = np.percentile(times, (50, 95))
        return float(p50), float(p95), float(np.mean(found)) if found else None

    def insert(self, network: str, count: int) -> float:
        """Items a second that are embedded and stored, by a model that costs nothing."""
        for content in self._texts.words(count, WORDS):
            self._memory.add(ANN, network, NewMemory(content))
        begun = time.perf_counter()
        Embedding(Database(self._engine), MadeUp(self._texts), now).run()
        return count / (time.perf_counter() - begun)

    def _near_an_item(self, network: str) -> list[float]:
        """A search for something that the network holds, in other words."""
        values = {"model": MODEL, "network_id": network, "place": int(self._texts.random.integers(0, 20))}
        with self._engine.connect() as connection:
            item = connection.execute(_ITEM, values).scalar_one()
        vector: list[float] = self._texts.near(np.array([json.loads(item)], dtype=np.float32))[0].tolist()
        return vector

    def _recall(self, network: str, vector: list[float], ids: set[str]) -> float:
        values = {"model": MODEL, "network_id": network, "vector": literal(vector), "farthest": 1 - LEAST_SIMILARITY}
        with self._engine.connect() as connection:
            nearest = set(connection.execute(_NEAREST, values).scalars())
        return len(ids & nearest) / len(nearest)


_NEAREST = text(
    """
    SELECT memory_id FROM memory_vectors
    WHERE model = :model AND network_id = :network_id AND vector <=> CAST(:vector AS halfvec) < :farthest
    ORDER BY (vector <=> CAST(:vector AS halfvec)) + 0 LIMIT 10
    """
)

_ITEM = text(
    "SELECT vector FROM memory_vectors WHERE model = :model AND network_id = :network_id OFFSET :place LIMIT 1"
)


def main() -> None:
    """Make both databases, search, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--networks", type=int, default=10_000)
    options.add_argument("--searches", type=int, default=200, help="of each kind")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Supervisor() as services:
        postgres = Postgres(Path(folder), durable=False)
        postgres.prepare()
        services.add(postgres.part())
        services.wait_ready()
        for networks in (1, given.networks):
            texts = Texts()
            with _database(postgres.url, f"of_{networks}", texts, given.items, networks) as engine:
                _print(Bench(engine, texts), texts, given.items, networks, given.searches)


def _print(bench: Bench, texts: Texts, items: int, networks: int, searches: int) -> None:
    title = f"{items:,} items in {networks:,} networks and one of {MIDDLE:,}; {searches} searches each"
    table = Table("search", "p50 ms", "p95 ms", "recall@10", title=title)
    for case in _cases(texts, networks):
        p50, p95, recall = bench.ask(case, searches)
        table.add_row(case.name, f"{p50:.1f}", f"{p95:.1f}", "" if recall is None else f"{recall:.3f}")
    console.print(table)
    console.print(f"embedded and stored: {bench.insert(_name(0), 500):.0f} items/s")


def _cases(texts: Texts, networks: int) -> Iterator[Case]:
    def anywhere() -> str:
        return _name(int(texts.random.integers(0, networks)))

    def usual() -> str:
        return texts.words(1, 5)[0]

    def middle() -> str:
        return "network_middle"

    yield Case("(warm-up)", anywhere, usual)
    yield Case("meaning alone", anywhere, lambda: NO_WORDS)
    yield Case("five words", anywhere, usual)
    yield Case("three of the most frequent words", anywhere, lambda: " ".join(texts.vocabulary[:3]))
    yield Case("five words, type", anywhere, usual, Filters(type="feedback"))
    yield Case("five words, min_confidence 0.95", anywhere, usual, Filters(min_confidence=0.95))
    yield Case("five words, task", anywhere, usual, Filters(task_id="task_77"))
    yield Case(f"meaning alone, network of {MIDDLE:,}", middle, lambda: NO_WORDS)
    yield Case(f"five words, network of {MIDDLE:,}", middle, usual)


@contextmanager
def _database(server: str, name: str, texts: Texts, items: int, networks: int) -> Iterator[Engine]:
    with create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    upgrade(url)
    engine = engines.create(url, name="bench")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET statement_timeout = 0; SET maintenance_work_mem = '2GB'"))
        connection.execute(_NETWORKS, {"last": networks - 1})
        begun = time.monotonic()
        connection.execute(text("DROP INDEX ix_memory_vectors_near"))
        for first in range(0, items, CHUNK):
            driver: Any = connection.connection.driver_connection
            _copy(driver, texts, range(first, min(items, first + CHUNK)), items, networks)
        console.print(f"{items:,} items made in {time.monotonic() - begun:.0f} s")
        begun = time.monotonic()
        connection.execute(text(GRAPH))
        console.print(f"graph made in {time.monotonic() - begun:.0f} s")
        connection.execute(text("VACUUM ANALYZE"))  # as autovacuum leaves them
    try:
        yield engine
    finally:
        engine.dispose()
    with create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))


_NETWORKS = text(
    """
    INSERT INTO networks (id, owner, name, description, shared_context, max_iterations, timeout_seconds,
                          model_selection, created_at, updated_at)
    SELECT 'network_' || name, 'ann', '', '', '{}', 10, 300, '{}', now(), now()
    FROM (SELECT n::text FROM generate_series(0, :last) n UNION ALL SELECT 'middle') names (name)
    """
)


def _name(number: int) -> str:
    return f"network_{number}"


def _copy(driver: extensions.connection, texts: Texts, numbers: range, items: int, networks: int) -> None:
    """Store a chunk; one in `items / MIDDLE` is the network's in the middle."""
    rows, vectors = io.StringIO(), io.StringIO()
    made = zip(
        numbers,
        texts.random.integers(0, networks, len(numbers)),
        texts.words(len(numbers), WORDS),
        texts.vectors(len(numbers)).tolist(),
        strict=True,
    )
    for number, chosen, content, vector in made:
        middle = number % max(items // MIDDLE, 2) == 1
        network = "network_middle" if middle else _name(int(chosen))
        kind, confidence, task = TYPES[number % 4], (number % 100) / 100, f"task_{number % 50_000}"
        memory_id, indexed = f"memory_{number:010d}", "f" if middle or networks > 1 else "t"
        rows.write(f"{memory_id}\t{network}\t{kind}\t{content}\t{said(content)}\t{confidence}\t{task}\n")
        vectors.write(f"{memory_id}\t{network}\t{indexed}\t{kind}\t{confidence}\t{task}\t{MODEL}\t{literal(vector)}\n")
    rows.seek(0)
    vectors.seek(0)
    with driver.cursor() as cursor:
        cursor.execute(_STAGING)
        cursor.copy_from(
            rows, "staged", columns=("id", "network_id", "type", "content", "said", "confidence", "task_id")
        )
        cursor.execute(_STORE)
        columns = ("memory_id", "network_id", "indexed", "type", "confidence", "task_id", "model", "vector")
        cursor.copy_from(vectors, "memory_vectors", columns=columns)


_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged (
        id text, network_id text, type text, content text, said text, confidence float, task_id text);
    TRUNCATE staged
"""
_STORE = """
    INSERT INTO memories (id, network_id, type, content, said, confidence, metadata, pinned, source_kind, agent_id,
                          task_id, version, created_at, updated_at)
    SELECT id, network_id, type, content, said, confidence, '{}', false, 'agent', 'agent_1', task_id, 1, now(), now()
    FROM staged
"""


if __name__ == "__main__":
    main()
