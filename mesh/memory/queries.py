"""What a search means: asked by the API, answered by a control worker, soon or not at all.

service -> Queries -> Celery -> workers.jobs.control -> Answers -> Redis -> Queries.  The API loads no model; when no
worker that can embed lives, or Redis does not answer, there is nobody to wait for.  How soon: a fifth of a second, or
what the worker says its provider takes.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from mesh.costs.ledger import Spender
from mesh.dispatch.jobs import Jobs
from mesh.dispatch.queues import CONTROL
from mesh.errors import MeshError, UnavailableError
from mesh.memory.embedding import Embedder
from mesh.memory.embedding_queue import spender_of
from mesh.memory.views import Meaning

EMBED_QUERY = "mesh.embed_query"
# How long a question may take on its way, and an answer of a model that is at hand.
ANSWER_SECONDS = 0.2
# Whatever a worker says, nobody waits longer for an answer.
LONGEST_SECONDS = 1.0
# Set by workers that can answer, every few seconds: how long to wait for it.
ALIVE_KEY = "mesh:embedding:seconds"
ALIVE_SECONDS = 10
# An answer that nobody took.
_FORGOTTEN_SECONDS = 2
# A question that nobody took from the broker; longer than clocks differ.
_EXPIRES_SECONDS = 30.0
# After the broker failed, or nobody answered, searches do not wait.
REST_SECONDS = 2.0

Found = TypeVar("Found")
log = structlog.get_logger(__name__)


class Shared(Protocol):
    """Redis, asked within milliseconds or not at all."""

    def ask(self, question: Callable[[Redis], Found], /) -> Found | None:
        """What `question` returns of Redis; None while Redis is away."""


def client(redis_url: str) -> Redis:
    """A client for both sides; no command takes much longer than an answer may."""
    return Redis.from_url(
        redis_url,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=LONGEST_SECONDS + ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


class Queries:
    """The asking side."""

    def __init__(self, shared: Shared, redis: Redis, jobs: Jobs) -> None:
        """`shared` is asked whether somebody lives who can answer; `jobs` must fail fast."""
        self._shared = shared
        self._redis = redis
        self._jobs = jobs
        self._rest_until = float("-inf")

    def meaning_of(self, text: str, spender: Spender) -> Meaning | None:
        """The meaning of `text`, at the cost of `spender`; None if that is not known soon enough."""
        if time.monotonic() < self._rest_until:
            return None
        seconds = self._shared.ask(lambda redis: redis.get(ALIVE_KEY))
        if seconds is None:
            return None
        patience = min(float(seconds), LONGEST_SECONDS)
        reply_key = f"{ALIVE_KEY}:{uuid4().hex}"
        try:
            self._redis.set(_waiting(reply_key), 1, px=round(patience * 1000))
            who = {"user_id": spender.user_id, "key_id": spender.key_id, "network_id": spender.network_id}
            payload = {"text": text, "reply_key": reply_key, **who}
            self._jobs.send(EMBED_QUERY, payload, queue=CONTROL, expires_seconds=_EXPIRES_SECONDS)
            answer = self._redis.blpop([reply_key], timeout=patience)
        except (UnavailableError, RedisError, OSError) as error:
            self._rest(type(error).__name__)
            return None
        if answer is None:
            self._rest("late")
            return None
        meaning = json.loads(answer[1])
        return meaning and Meaning(**meaning)

    def _rest(self, reason: str) -> None:
        self._rest_until = time.monotonic() + REST_SECONDS
        log.warning("search_by_words_alone", reason=reason, resting_seconds=REST_SECONDS)


def _waiting(reply_key: str) -> str:
    """The key that stands while somebody waits for the answer; who removes it answers."""
    return f"{reply_key}:waiting"


class Answers:
    """The answering side, in a control worker."""

    def __init__(self, redis: Redis, embedder: Embedder, possible: Callable[[], bool]) -> None:
        """`possible`: whether there are vectors to compare with."""
        self._redis = redis
        self._embedder = embedder
        self._possible = possible
        self._able = False

    def warm_up(self) -> None:
        """Load what answers are made with."""
        self._embedder.warm_up()

    def announce(self) -> None:
        """Say that this worker can answer, for ten seconds, if it can."""
        try:
            self._able = self._embedder.warm() and self._possible()
            if self._able:
                self._redis.set(ALIVE_KEY, self._embedder.answer_seconds, ex=ALIVE_SECONDS)
        except (UnavailableError, RedisError, OSError) as error:
            log.warning("embedding_not_announced", error=type(error).__name__)

    def answer(self, text: str, reply_key: str, user_id: str, key_id: str | None, network_id: str) -> None:
        """Tell whoever waits at `reply_key` what `text` means, or that they cannot be told now.

        Where nobody waits any more, nothing is asked for that somebody would pay.
        """
        try:
            if not self._redis.delete(_waiting(reply_key)):
                return
            meaning = self._meaning(text, spender_of(user_id, key_id, network_id))
            with self._redis.pipeline(transaction=False) as both:
                both.rpush(reply_key, json.dumps(meaning))
                both.expire(reply_key, _FORGOTTEN_SECONDS)
                both.execute()
        except (RedisError, OSError) as error:
            log.warning("meaning_not_told", error=type(error).__name__)

    def _meaning(self, text: str, spender: Spender) -> dict[str, Any] | None:
        if not self._able:  # another worker is, with another model
            return None
        try:
            [vector] = self._embedder.embed([text], spender)
        except MeshError as error:  # its provider, a budget, or the ledger: words will do
            log.info("search_not_embedded", reason=error.code)
            return None
        return {
            "model": self._embedder.model,
            "vector": vector,
            "least_similarity": self._embedder.least_similarity,
        }
