"""What a search means: asked by the API, answered by a control worker, within a fifth of a second or not at all.

service -> Queries -> Celery -> workers.jobs.control -> Answers -> Redis -> Queries.  The API loads no model; when no
worker that can embed lives, or Redis does not answer, there is nobody to wait for.
"""

import json
import time
from collections.abc import Callable
from typing import Protocol, TypeVar
from uuid import uuid4

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from mesh.dispatch.jobs import Jobs
from mesh.dispatch.queues import CONTROL
from mesh.errors import UnavailableError
from mesh.memory.embedding import Embedder
from mesh.memory.views import Meaning

EMBED_QUERY = "mesh.embed_query"
ANSWER_SECONDS = 0.2
# Set by workers that can answer, every few seconds.
ALIVE_KEY = "mesh:embedding"
ALIVE_SECONDS = 10
# An answer that nobody took.
_FORGOTTEN_SECONDS = 2
# After the broker failed, or nobody answered, searches do not wait.
REST_SECONDS = 2.0

Found = TypeVar("Found")
log = structlog.get_logger(__name__)


class Shared(Protocol):
    """Redis, asked within milliseconds or not at all."""

    def ask(self, question: Callable[[Redis], Found], /) -> Found | None:
        """What `question` returns of Redis; None while Redis is away."""


def client(redis_url: str) -> Redis:
    """A client for both sides; no command takes longer than an answer may."""
    return Redis.from_url(
        redis_url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=2 * ANSWER_SECONDS, retry=Retry(NoBackoff(), 0)
    )


class Queries:
    """The asking side."""

    def __init__(self, shared: Shared, redis: Redis, jobs: Jobs) -> None:
        """`shared` is asked whether somebody lives who can answer; `jobs` must fail fast."""
        self._shared = shared
        self._redis = redis
        self._jobs = jobs
        self._rest_until = float("-inf")

    def meaning_of(self, text: str) -> Meaning | None:
        """The meaning of `text`; None if that is not known soon enough."""
        if time.monotonic() < self._rest_until or not self._shared.ask(lambda redis: redis.exists(ALIVE_KEY)):
            return None
        reply_key = f"{ALIVE_KEY}:{uuid4().hex}"
        try:
            payload = {"text": text, "reply_key": reply_key}
            self._jobs.send(EMBED_QUERY, payload, queue=CONTROL, expires_seconds=1)
            answer = self._redis.blpop([reply_key], timeout=ANSWER_SECONDS)
        except (UnavailableError, RedisError, OSError) as error:
            self._rest(type(error).__name__)
            return None
        if answer is None:
            self._rest("late")
            return None
        return Meaning(**json.loads(answer[1]))

    def _rest(self, reason: str) -> None:
        self._rest_until = time.monotonic() + REST_SECONDS
        log.warning("search_by_words_alone", reason=reason, resting_seconds=REST_SECONDS)


class Answers:
    """The answering side, in a control worker."""

    def __init__(self, redis: Redis, embedder: Embedder, possible: Callable[[], bool]) -> None:
        """`possible`: whether there are vectors to compare with."""
        self._redis = redis
        self._embedder = embedder
        self._possible = possible

    def announce(self) -> None:
        """Say that this worker can answer, for ten seconds."""
        try:
            if self._possible():
                self._redis.set(ALIVE_KEY, self._embedder.model, ex=ALIVE_SECONDS)
        except (UnavailableError, RedisError, OSError) as error:
            log.warning("embedding_not_announced", error=type(error).__name__)

    def answer(self, text: str, reply_key: str) -> None:
        """Tell whoever waits at `reply_key` what `text` means."""
        meaning = {"model": self._embedder.model, "vector": self._embedder.embed([text])[0]}
        try:
            with self._redis.pipeline(transaction=False) as both:
                both.rpush(reply_key, json.dumps(meaning))
                both.expire(reply_key, _FORGOTTEN_SECONDS)
                both.execute()
        except (RedisError, OSError) as error:
            log.warning("meaning_not_told", error=type(error).__name__)
