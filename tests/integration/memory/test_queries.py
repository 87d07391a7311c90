"""What a search means, asked of a worker: in time, or words alone and nobody waits."""

import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, cast

import pytest
from redis import Redis

from mesh.dispatch.jobs import Jobs
from mesh.errors import UnavailableError
from mesh.memory.embedding import Embedding
from mesh.memory.queries import ALIVE_KEY, ANSWER_SECONDS, Answers, Queries, client
from mesh.memory.service import Memory
from mesh.memory.views import NewMemory
from mesh.testing import AwayRedis
from tests.integration.memory.conftest import Synonyms
from tests.integration.tasks.core import ANN, Core


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


@pytest.fixture
def redis(redis_flushed: str) -> Redis:
    return client(redis_flushed)


def queries(redis: Redis, jobs: Straight) -> Queries:
    return Queries(At(redis), redis, cast(Jobs, jobs))


def test_a_worker_answers_what_a_search_means(redis: Redis, synonyms: Synonyms) -> None:
    answers = Answers(redis, synonyms, lambda: True)
    answers.announce()
    meaning = queries(redis, Straight(answers)).meaning_of("Buyers skim.")
    assert meaning == synonyms.meaning_of("Buyers skim.")
    assert redis.keys() == [ALIVE_KEY.encode()]


def test_a_search_is_served_by_meaning_and_by_words_alone_as_soon_as_the_worker_is_gone(
    core: Core, redis: Redis, synonyms: Synonyms, embedding: Embedding, network: str
) -> None:
    answers = Answers(redis, synonyms, embedding.possible)
    answers.announce()
    memory = Memory(core.database, core.clock, queries(redis, Straight(answers)).meaning_of)
    memory.add(ANN, network, NewMemory("Customers skim."))
    embedding.run()
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
    assert [asking.meaning_of("x") for _ in range(20)] == [None] * 20
    assert time.monotonic() - begun < 3 * ANSWER_SECONDS
    assert jobs.sent == 1


def test_without_redis_nothing_is_sent_and_nobody_waits(redis: Redis) -> None:
    jobs = Straight(None)
    assert Queries(AwayRedis(), redis, cast(Jobs, jobs)).meaning_of("x") is None
    assert jobs.sent == 0
