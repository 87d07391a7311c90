"""Redis for what all processes must agree on at once: breakers, rests, rate limits.

breakers, limits -> board -> here -> Redis.  Every question is answered within 0.3 s or not at all; who asks then goes
by what its own process knows.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

T = TypeVar("T")

# Two of these are the most that is lost: a connection that takes all of its time, and an answer that never comes.
TIMEOUT_SECONDS = 0.15
SKIP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Shared(Protocol):
    """What the board and the limits need of Redis."""

    def ask(self, question: Callable[[Redis], T], /) -> T | None:
        """What `question` returns of Redis; None while Redis is away."""


class SharedRedis:
    """One connection, in turn for all threads, so that a server that hangs is waited for once, not once a thread.

    After it did not answer it is not asked again for `SKIP_SECONDS`.
    """

    def __init__(self, redis_url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Nothing is connected yet."""
        self._client = Redis.from_url(
            redis_url,
            protocol=2,
            decode_responses=True,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._skip_until = float("-inf")

    def ask(self, question: Callable[[Redis], T], /) -> T | None:
        """What `question` returns of Redis; None while Redis is away: refusing, hanging, or not up to it."""
        if self._monotonic() < self._skip_until:
            return None
        with self._lock:
            if self._monotonic() < self._skip_until:  # another thread found out while this one waited
                return None
            try:
                return question(self._client)
            except (RedisError, OSError) as error:
                self._skip_until = self._monotonic() + SKIP_SECONDS
                log.warning("shared_state_away", error=type(error).__name__, skipped_seconds=SKIP_SECONDS)
                return None
