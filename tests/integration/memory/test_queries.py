"""What a search means, asked of a worker: in time, or words alone and nobody waits."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from redis import Redis

from mesh.costs.ledger import Spender
from mesh.dispatch.jobs import Jobs
from mesh.errors import ModelsBusyError, UnavailableError
from mesh.memory.embedding import Embedding
from mesh.memory.embedding_queue import spender_of
from mesh.memory.queries import ALIVE_KEY, ANSWER_SECONDS, Answers, Queries, client
from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.testing import AwayRedis
from tests.integration.memory.conftest import At, Straight, Synonyms
from tests.integration.tasks.core import ANN, Core

ANNS = spender_of("ann", None, "network_x")


@pytest.fixture
def redis(redis_flushed: str) -> Redis:
    return client(redis_flushed)


def queries(redis: Redis, jobs: Straight) -> Queries:
    return Queries(At(redis), redis, cast(Jobs, jobs))


def test_a_worker_answers_what_a_search_means(redis: Redis, synonyms: Synonyms) -> None:
    answers = Answers(redis, synonyms, lambda: True)
    answers.announce()
    meaning = queries(redis, Straight(answers)).meaning_of("Buyers skim.", ANNS)
    assert meaning == synonyms.meaning_of("Buyers skim.")
    assert redis.keys() == [ALIVE_KEY.encode()]


def test_a_search_is_served_by_meaning_and_by_words_alone_as_soon_as_the_worker_is_gone(
    core: Core, redis: Redis, synonyms: Synonyms, embedding: Embedding, network: str
) -> None:
    answers = Answers(redis, synonyms, embedding.possible)
    memory = Memory(core.database, core.clock, queries(redis, Straight(answers)).meaning_of)
    memory.add(ANN, network, NewMemory("Customers skim."))
    embedding.run()
    answers.announce()
    assert len(memory.search(ANN, network, "buyers", limit=9)) == 1
    redis.delete(ALIVE_KEY)
    assert memory.search(ANN, network, "buyers", limit=9) == []
    assert len(memory.search(ANN, network, "customers", limit=9)) == 1


def test_where_vectors_cannot_be_kept_no_worker_offers_to_answer(redis: Redis, synonyms: Synonyms) -> None:
    Answers(redis, synonyms, lambda: False).announce()
    assert redis.keys() == []


@pytest.mark.parametrize("error", [None, UnavailableError("The broker does not answer.")])
def test_who_does_not_answer_is_waited_for_once(redis: Redis, synonyms: Synonyms, error: Exception | None) -> None:
    Answers(redis, synonyms, lambda: True).announce()
    jobs = Straight(None, error)
    asking = queries(redis, jobs)
    begun = time.monotonic()
    assert [asking.meaning_of("x", ANNS) for _ in range(20)] == [None] * 20
    assert time.monotonic() - begun < 3 * ANSWER_SECONDS
    assert jobs.sent == 1


def test_without_redis_nothing_is_sent_and_nobody_waits(redis: Redis) -> None:
    jobs = Straight(None)
    assert Queries(AwayRedis(), redis, cast(Jobs, jobs)).meaning_of("x", ANNS) is None
    assert jobs.sent == 0


def test_what_nobody_waits_for_any_more_is_not_asked_for(redis: Redis, synonyms: Synonyms) -> None:
    """Nor what has been answered already: brokers deliver twice."""
    answers = Answers(redis, synonyms, lambda: True)
    answers.announce()
    late = Late()
    assert Queries(At(redis), redis, cast(Jobs, late)).meaning_of("Buyers skim.", ANNS) is None
    answers.answer(**late.payload)
    assert (synonyms.embedded, redis.keys()) == ([], [ALIVE_KEY.encode()])
    asked = {**late.payload, "reply_key": "reply"}
    redis.set("reply:waiting", 1)
    for _ in range(2):
        answers.answer(**asked)
    assert synonyms.embedded == ["Buyers skim."]


class Late:
    """`Jobs` that nobody takes for now."""

    def send(self, _name: str, payload: Mapping[str, Any], **_: object) -> None:
        self.payload = dict(payload)


class Cold(Synonyms):
    """Takes seconds to load."""

    loaded = False

    def warm_up(self) -> None:
        self.loaded = True

    def warm(self) -> bool:
        return self.loaded


def test_a_worker_offers_to_answer_once_it_can_do_so_at_once(redis: Redis) -> None:
    answers = Answers(redis, Cold(), lambda: True)
    answers.announce()
    assert redis.keys() == []
    answers.warm_up()
    answers.announce()
    assert redis.keys() == [ALIVE_KEY.encode()]


class AtAProvider(Synonyms):
    """Takes a while."""

    answer_seconds = 1.0

    def embed(self, texts: Sequence[str], spender: Spender | None = None) -> list[list[float]]:
        time.sleep(2 * ANSWER_SECONDS)
        return super().embed(texts, spender)


def test_a_worker_that_asks_a_provider_is_waited_for_as_long_as_it_says(redis: Redis) -> None:
    slow = AtAProvider()
    answers = Answers(redis, slow, lambda: True)
    answers.announce()
    assert queries(redis, Straight(answers)).meaning_of("Buyers skim.", ANNS) == slow.meaning_of("Buyers skim.")


class Resting(AtAProvider):
    """May not be asked now."""

    def embed(self, _texts: Sequence[str], _spender: Spender | None = None) -> list[list[float]]:
        raise ModelsBusyError("It rests.", seconds=30)


def test_that_there_is_no_answer_now_is_said_at_once_and_others_ask_on(redis: Redis) -> None:
    """One searcher's budget is nobody else's."""
    answers = Answers(redis, Resting(), lambda: True)
    answers.announce()
    jobs = Straight(answers)
    asking = queries(redis, jobs)
    begun = time.monotonic()
    assert [asking.meaning_of("x", ANNS) for _ in range(3)] == [None] * 3
    assert time.monotonic() - begun < Resting.answer_seconds
    assert jobs.sent == 3


@pytest.mark.parametrize(("least_similarity", "found"), [(0.7, ["Customers skim."]), (0.72, [])])
def test_what_is_farther_than_the_model_holds_for_related_is_not_found(
    least_similarity: float, found: list[str], core: Core, redis: Redis, network: str
) -> None:
    """The cosine of the two is 0.707."""
    particular = Synonyms(buyers="customers")
    particular.least_similarity = least_similarity
    answers = Answers(redis, particular, lambda: True)
    answers.announce()
    memory = Memory(core.database, core.clock, queries(redis, Straight(answers)).meaning_of)
    memory.add(ANN, network, NewMemory("Customers skim."))
    Embedding(core.database, particular, core.clock).run()
    assert [view.content for view in memory.search(ANN, network, "buyers", limit=9)] == found
