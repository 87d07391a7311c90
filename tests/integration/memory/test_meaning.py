"""Memory by meaning: what is found in other words, and what becomes of an item's vector when the item changes."""

import time
from collections.abc import Sequence
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from mesh.costs.ledger import Spender
from mesh.errors import BudgetExceededError, ModelCallError, ModelsBusyError
from mesh.memory import local_model
from mesh.memory.embedding import ALONE, CALLS_AT_ONCE, LONGEST, LONGEST_REST_SECONDS, RUN_SECONDS, Embedding
from mesh.memory.embedding_queue import BATCH, IN_HAND, RENEWED_EVERY, EmbeddingQueue
from mesh.memory.recall import RECALL_LIMIT
from mesh.memory.search import EXACT
from mesh.memory.service import Memory
from mesh.memory.views import Filters, Meaning, NewMemory
from tests.builders import principal
from tests.integration.memory.conftest import Synonyms, recalled
from tests.integration.tasks.core import ANN, Core

PARAPHRASES = {
    "Customers abandon their cart when shipping is expensive.": "Buyers leave checkout if delivery costs too much.",
    "The physician advised rest.": "Doctors recommend sleeping.",
    "Our automobile sales fell sharply.": "Fewer cars were sold.",
    "Staff prefer working from home.": "Employees like remote jobs.",
    "The movie received terrible reviews.": "Critics hated this film.",
    "Kids enjoy bright toys.": "Children love colourful playthings.",
    "Revenue grew quickly last year.": "Income increased fast during twelve months.",
    "Passwords must be long.": "Credentials need many characters.",
}


def found(memory: Memory, network: str, query: str, **filters: Any) -> list[str]:  # noqa: ANN401  # fields by name
    return [view.content for view in memory.search(ANN, network, query, limit=20, filters=Filters(**filters))]


def add(memory: Memory, network: str, *contents: str, **fields: Any) -> list[str]:  # noqa: ANN401  # fields by name
    return [memory.add(ANN, network, NewMemory(content, **fields)).memory_id for content in contents]


def vectors(core: Core) -> int:
    with core.database.begin() as work:
        return int(work.connection.execute(text("SELECT count(*) FROM memory_vectors")).scalar_one())


@pytest.mark.skipif(not local_model.installed(), reason="without the extra `embeddings`")
def test_the_model_that_runs_here_finds_every_paraphrase_first(core: Core, network: str) -> None:
    model = local_model.LocalModel()
    asked = Memory(core.database, core.clock, lambda query, _: _meaning(model, query))
    add(asked, network, *PARAPHRASES)
    assert Embedding(core.database, model, core.clock).run() == len(PARAPHRASES)
    assert {item: found(asked, network, query)[:1] for item, query in PARAPHRASES.items()} == {
        item: [item] for item in PARAPHRASES
    }


def _meaning(model: local_model.LocalModel, query: str) -> Meaning:
    return Meaning(model.model, model.embed([query])[0])


def test_an_item_is_found_by_meaning_as_soon_as_it_is_embedded(
    memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "Customers skim.", "Prices rise.")
    assert found(memory, network, "buyers") == []
    embedding.run()
    assert found(memory, network, "buyers") == ["Customers skim."]


def test_what_both_lists_have_comes_before_what_one_has(memory: Memory, embedding: Embedding, network: str) -> None:
    add(memory, network, "Clients skim.", "Buyers skim.", "Newsletters by buyers of the past.")
    embedding.run()
    assert found(memory, network, "buyers skim")[0] == "Buyers skim."


def test_without_its_meaning_a_search_goes_by_words(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "Customers skim.", "Buyers skim.")
    embedding.run()
    assert found(Memory(core.database, core.clock), network, "buyers") == ["Buyers skim."]


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"type": "feedback"}, ["customers three"]),
        ({"min_confidence": 0.8}, ["customers one"]),
        ({"task_id": "task_x"}, []),
        ({"type": "fact", "min_confidence": 0.1}, ["customers one", "customers two"]),
    ],
)
def test_filters_hold_for_what_is_found_by_meaning(
    filters: dict[str, Any], fits: list[str], memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "customers one", confidence=0.9)
    add(memory, network, "customers two", confidence=0.5)
    add(memory, network, "customers three", confidence=0.5, type="feedback")
    embedding.run()
    assert sorted(found(memory, network, "buyers", **filters)) == sorted(fits)


def test_a_search_stays_within_its_network(core: Core, memory: Memory, embedding: Embedding, network: str) -> None:
    add(memory, core.network(), "Customers skim.")
    embedding.run()
    assert found(memory, network, "buyers customers") == []


def test_a_changed_content_is_not_found_by_what_it_meant_and_is_embedded_anew(
    memory: Memory, embedding: Embedding, network: str
) -> None:
    [memory_id] = add(memory, network, "Customers skim.")
    embedding.run()
    memory.change(ANN, network, memory_id, {"content": "Prices rise."})
    assert found(memory, network, "buyers") == []
    embedding.run()
    assert found(memory, network, "rise of prices") == ["Prices rise."]
    memory.change(ANN, network, memory_id, {"type": "decision"})
    embedding.run()
    assert found(memory, network, "prices", type="decision") == ["Prices rise."]


def test_a_content_that_changes_while_it_is_embedded_is_embedded_again(
    core: Core, memory: Memory, network: str
) -> None:
    [memory_id] = add(memory, network, "Customers skim.")

    class Slow(Synonyms):
        def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
            if texts == ["Customers skim."]:
                memory.change(ANN, network, memory_id, {"content": "Prices rise."})
            return super().embed(texts, spender)

    slow = Slow()
    Embedding(core.database, slow, core.clock).run()
    assert slow.embedded == ["Customers skim.", "Prices rise."]
    assert vectors(core) == 1


def test_an_expired_or_removed_item_is_not_found(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "Customers skim.", ttl_seconds=60)
    [removed] = add(memory, network, "Clients read.")
    embedding.run()
    memory.remove(ANN, network, removed)
    core.clock.advance(60)
    assert found(memory, network, "buyers") == []
    assert vectors(core) == 1


def test_what_a_dead_worker_had_in_hand_is_taken_by_another(core: Core, memory: Memory, network: str) -> None:
    add(memory, network, "Customers skim.")

    class Dies(Synonyms):
        def embed(self, _texts: Sequence[str], _spender: Spender | None = None) -> list[list[float]]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Embedding(core.database, Dies(), core.clock).run()
    another = Embedding(core.database, Synonyms(), core.clock)
    assert another.run() == 0
    core.clock.advance(IN_HAND.total_seconds())
    assert another.run() == 1


def test_another_model_embeds_everything_anew(core: Core, memory: Memory, embedding: Embedding, network: str) -> None:
    add(memory, network, "Customers skim.", "Prices rise.")
    embedding.run()
    other = Synonyms()
    other.model = "other"
    assert Embedding(core.database, other, core.clock).run() == 2
    assert found(memory, network, "buyers") == []
    assert vectors(core) == 2


def test_of_two_models_the_one_that_was_started_last_is_kept(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    """A worker that has the older one in its settings stores nothing any more, what it has in hand included."""
    other = Synonyms()
    other.model = "other"
    newer = Embedding(core.database, other, core.clock)

    class Slow(Synonyms):
        def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
            if texts == ["Prices rise."]:
                newer.run()
            return super().embed(texts, spender)

    older = Embedding(core.database, Slow(), core.clock)
    add(memory, network, "Customers skim.")
    older.run()
    embedding.run()
    add(memory, network, "Prices rise.")
    older.run()
    assert models(core) == {"other"}
    assert (older.possible(), embedding.possible(), newer.possible()) == (False, False, True)
    add(memory, network, "Tea is warm.")
    assert (older.run(), embedding.run()) == (0, 0)
    core.clock.advance(IN_HAND.total_seconds())
    newer.run()
    assert (vectors(core), models(core)) == (3, {"other"})


def models(core: Core) -> set[str]:
    with core.database.begin() as work:
        return set(work.connection.execute(text("SELECT model FROM memory_vectors")).scalars())


def test_what_another_model_embedded_is_put_into_the_queue_in_parts(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, *(f"Remark number {number}." for number in range(5)))
    embedding.run()
    queue = EmbeddingQueue(core.database, core.clock, "other", renewed=2)
    queue.take_over()
    parts = []
    while queue.renew():
        parts.append(len(queue.take_memories()))
    assert parts == [2, 2, 1]


def test_what_one_model_could_not_embed_is_offered_to_the_next_at_once(
    core: Core, memory: Memory, network: str
) -> None:
    add(memory, network, "Customers skim.")
    queue = EmbeddingQueue(core.database, core.clock, "synonyms")
    queue.take_over()
    queue.put_back(queue.take_memories(), wait=LONGEST, attempts=3)
    queue.take_over()
    assert queue.take_memories() == []
    another = EmbeddingQueue(core.database, core.clock, "other")
    another.take_over()
    assert [row.attempts for row in another.take_memories()] == [0]


def test_a_worker_whose_model_does_not_work_takes_nothing_over(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "Customers skim.")
    embedding.run()
    picky = Picky("not_authorized", "")
    picky.model = "other"
    newer = Embedding(core.database, picky, core.clock)
    newer.run()
    assert (embedding.possible(), newer.possible(), picky.embedded) == (True, False, [])
    picky.forbidden = "nothing"
    core.clock.advance(IN_HAND.total_seconds())
    newer.run()
    assert (embedding.possible(), newer.possible(), models(core)) == (False, True, {"other"})


def test_a_run_ends_where_the_first_texts_that_another_model_embedded_have_to_wait(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    """For a budget, say; the next ones are tried with the next run that looks for some."""
    add(memory, network, *(f"Remark {number}." for number in range(BATCH)), "Tea is warm.")
    embedding.run()

    class Short(Synonyms):
        def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
            if "Remark" in texts[0]:
                raise BudgetExceededError("", needed_usd=Decimal(1), left_usd=Decimal(0))
            return super().embed(texts, spender)

    short = Short()
    short.model = "other"
    newer = Embedding(core.database, short, core.clock)
    began = time.monotonic()
    assert newer.run() == BATCH
    assert time.monotonic() - began < RUN_SECONDS / 2
    assert not newer.possible()
    core.clock.advance(RENEWED_EVERY.total_seconds())
    newer.run()
    assert newer.possible()


def test_who_stood_aside_goes_on_when_its_model_is_the_one_again(core: Core, memory: Memory, network: str) -> None:
    newer = Embedding(core.database, Synonyms(), core.clock)
    add(memory, network, "Customers skim.")
    newer.run()
    stale = Synonyms()
    stale.model = "other"
    Embedding(core.database, stale, core.clock).run()
    add(memory, network, "Prices rise.")
    assert newer.run() == 0
    Embedding(core.database, Synonyms(), core.clock).run()
    add(memory, network, "Tea is warm.")
    assert newer.run() == 1
    assert (vectors(core), models(core)) == (3, {"synonyms"})


def test_what_a_worker_of_an_older_version_stores_later_is_embedded_anew(
    core: Core, memory: Memory, embedding: Embedding, synonyms: Synonyms, network: str
) -> None:
    add(memory, network, "Customers skim.")
    embedding.run()
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE memory_vectors SET model = 'older'"))
    embedding.run()
    core.clock.advance(RENEWED_EVERY.total_seconds())
    embedding.run()
    assert (synonyms.embedded, models(core)) == (["Customers skim."] * 2, {"synonyms"})


def test_what_has_expired_is_not_embedded(
    core: Core, memory: Memory, embedding: Embedding, synonyms: Synonyms, network: str
) -> None:
    add(memory, network, "Customers skim.", ttl_seconds=60)
    embedding.run()
    add(memory, network, "Prices rise.", ttl_seconds=60)
    core.clock.advance(60)
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE memory_vectors SET model = 'older'"))
    core.clock.advance(RENEWED_EVERY.total_seconds())
    embedding.run()
    core.clock.advance(RENEWED_EVERY.total_seconds())
    assert embedding.run() == 0
    assert synonyms.embedded == ["Customers skim."]


class Picky(Synonyms):
    """Fails at texts with a word."""

    charges = True

    def __init__(self, code: str, forbidden: str) -> None:
        super().__init__()
        self.code = code
        self.forbidden = forbidden

    def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
        if any(self.forbidden in text for text in texts):
            raise ModelCallError(self.code, "It does not take that.")
        return super().embed(texts, spender)


@pytest.mark.parametrize("code", ["bad_request", "provider_error"])
def test_however_many_texts_fail_nobody_elses_wait(code: str, core: Core, memory: Memory, network: str) -> None:
    """Whether they were written before or after, and also when it is their turn again."""
    picky = Picky(code, "Forbidden")
    embedding = Embedding(core.database, picky, core.clock)
    add(memory, network, *(f"Forbidden {number}." for number in range(100)))
    theirs = core.network(owner="ben")
    for hour in range(3):
        view = memory.add(principal("ben"), theirs, NewMemory(f"Remark {hour}."))
        embedding.run()
        assert view.content in picky.embedded
        core.clock.advance(3600)


@pytest.mark.parametrize("code", ["provider_error", "connection_failed", "timeout", "overloaded"])
def test_an_outage_is_not_the_texts_fault(code: str, core: Core, memory: Memory, network: str) -> None:
    """However long it lasted, all that waited is embedded when the model is asked again for the first time."""
    add(memory, network, *(f"Remark number {number}." for number in range(40)))
    down = Picky(code, "")
    embedding = Embedding(core.database, down, core.clock)
    for _ in range(6 * 60):
        embedding.run()
        core.clock.advance(60)
    down.forbidden = "nothing"
    core.clock.advance(LONGEST_REST_SECONDS)
    embedding.run()
    assert vectors(core) == 40


def test_what_was_not_tried_yet_is_taken_before_what_failed(core: Core, memory: Memory, network: str) -> None:
    queue = EmbeddingQueue(core.database, core.clock, "synonyms")
    add(memory, network, *(f"Forbidden {number}." for number in range(2 * BATCH)))
    for _ in range(2):
        queue.put_back(queue.take_memories(), wait=ALONE, attempts=3)
    add(memory, network, "Remark.")
    core.clock.advance(ALONE.total_seconds())
    assert "Remark." in [row.content for row in queue.take_memories()]


class Busy(Synonyms):
    """Charges, and may not be asked while it rests."""

    charges = True
    resting = True
    asked = 0

    def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
        if self.resting:
            self.asked += 1
            raise ModelsBusyError("It rests.", seconds=3)
        return super().embed(texts, spender)


def test_while_no_model_may_be_asked_nothing_is_kept_in_hand(core: Core, memory: Memory) -> None:
    """However many spenders there are, all their texts are embedded as soon as it may."""
    busy = Busy()
    embedding = Embedding(core.database, busy, core.clock)
    for owner in "abcdefghij":
        network = core.network(owner=owner)
        memory.add(principal(owner), network, NewMemory(f"What {owner} knows."))
    embedding.run()
    assert busy.asked <= CALLS_AT_ONCE
    busy.resting = False
    core.clock.advance(3)
    embedding.run()
    assert vectors(core) == 10


class Lagging(Synonyms):
    """Takes most of the time that texts are in hand, and looks how much of it was left for the last one."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.left = 0.0
        self._core = core
        self._four = Barrier(CALLS_AT_ONCE)

    def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
        if texts == ["Remark number 4."]:
            with self._core.database.begin() as work:
                taken = work.connection.execute(text("SELECT max(taken_until) FROM memories_to_embed")).scalar_one()
            self.left = (taken - self._core.clock()).total_seconds()
        elif self._four.wait() == 0:
            self._core.clock.advance(0.6 * IN_HAND.total_seconds())
            self._four.wait()
        else:
            self._four.wait()
        return super().embed(texts, spender)


def test_a_text_that_another_worker_may_take_soon_is_taken_anew_first(core: Core, memory: Memory, network: str) -> None:
    lagging = Lagging(core)
    embedding = Embedding(core.database, lagging, core.clock)
    embedding.run()
    add(memory, network, *(f"Remark number {number}." for number in range(CALLS_AT_ONCE + 1)))
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE memories_to_embed SET attempts = 3"))
    embedding.run()
    assert (vectors(core), lagging.left) == (CALLS_AT_ONCE + 1, IN_HAND.total_seconds())


class Cut(Synonyms):
    """When it has answered, the database has dropped all sessions, as one does that is started anew."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._other = create_engine(engine.url, poolclass=NullPool)

    def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
        with self._other.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        return super().embed(texts, spender)


def test_what_was_paid_for_is_stored_though_the_database_was_away_for_a_moment(
    core: Core, engine: Engine, memory: Memory, network: str
) -> None:
    add(memory, network, "Customers skim.")
    Embedding(core.database, Cut(engine), core.clock).run()
    assert vectors(core) == 1


def test_without_pgvector_memory_goes_by_words_and_nothing_is_lost(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    with core.database.begin() as work:
        work.connection.execute(text("DROP TABLE memory_vectors"))
    [memory_id] = add(memory, network, "Customers skim.")
    assert embedding.run() == 0
    memory.change(ANN, network, memory_id, {"content": "Customers read."})
    by_words = Memory(core.database, core.clock)
    assert found(by_words, network, "reading") == ["Customers read."]


def test_recall_finds_what_is_old_and_relevant_among_hundreds(
    core: Core, memory: Memory, embedding: Embedding, synonyms: Synonyms, network: str
) -> None:
    """By the words of the step at once, by the meaning of its task when that is known; as near as its model says."""
    add(memory, network, "The guarantee is two years.", "Customers skim.")
    add(memory, network, *(f"Remark number {number}." for number in range(300)))
    task_id = core.submit(network).task_id
    assert "The guarantee is two years." in recalled(core, network, task_id=task_id, about="Mention guarantees.")
    assert "Customers skim." not in recalled(core, network, task_id=task_id, about="Mention guarantees.")
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE tasks SET task = 'What do buyers do?'"))
    embedding.run()
    reminded = recalled(core, network, task_id=task_id, about="Mention guarantees.")
    assert {"The guarantee is two years.", "Customers skim."} < set(reminded)
    assert len(reminded) == RECALL_LIMIT
    with core.database.begin() as work:
        work.connection.execute(text("UPDATE task_vectors SET vector = NULL, taken_until = '-infinity'"))
    synonyms.least_similarity = 0.99
    embedding.run()
    assert "Customers skim." not in recalled(core, network, task_id=task_id, about="Mention guarantees.")


def test_a_pinned_item_is_recalled_before_all_others(core: Core, memory: Memory, network: str) -> None:
    add(memory, network, "Never promise dates.", pinned=True)
    add(memory, network, *(f"Remark number {number}." for number in range(RECALL_LIMIT + 1)))
    assert recalled(core, network, "Remark 5")[:2] == ["Never promise dates.", "Remark number 5."]


def test_a_task_is_embedded_only_where_not_all_can_be_recalled(
    core: Core, embedding: Embedding, synonyms: Synonyms, network: str
) -> None:
    core.submit(network)
    embedding.run()
    assert synonyms.embedded == []


def test_a_network_that_has_become_large_is_searched_through_the_graph(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    add(memory, network, "Customers skim.")
    embedding.run()
    assert (found(memory, network, "buyers"), in_graph(core)) == (["Customers skim."], 0)
    grow(core, network)
    assert found(memory, network, "buyers") == ["Customers skim."]
    add(memory, network, "Clients read.")
    embedding.run()
    assert in_graph(core) == 2
    assert set(found(memory, network, "buyers")) == {"Customers skim.", "Clients read."}
    assert found(memory, network, "buyers", type="feedback") == []


def test_words_that_are_nearly_everywhere_are_looked_for_among_the_newest(
    core: Core, memory: Memory, network: str
) -> None:
    by_words = Memory(core.database, core.clock)
    add(memory, network, *(f"mail number {number}" for number in range(20)), "mail and more mail")
    grow(core, network)
    with core.database.begin() as work:
        work.connection.execute(text("ANALYZE memories"))
    assert found(by_words, network, "mails")[0] == "mail and more mail"
    assert found(by_words, network, "mails numbered 7")[0] == "mail number 7"
    assert found(by_words, network, "mail", task_id="task_x") == []


def grow(core: Core, network: str) -> None:
    """As if the network had more items than are compared one by one."""
    with core.database.begin() as work:
        values = {"network": network, "count": 2 * EXACT}
        work.connection.execute(text("UPDATE network_counts SET memories = :count WHERE network_id = :network"), values)


def in_graph(core: Core) -> int:
    with core.database.begin() as work:
        return int(work.connection.execute(text("SELECT count(*) FROM memory_vectors WHERE indexed")).scalar_one())
