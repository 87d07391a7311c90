"""Slots: how many generations a user has under way, over all processes.

service -> here -> Redis.  A slot is held for seconds and renewed while its stream is open, so that the death of whoever
holds it frees it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from redis import Redis, RedisError

from mesh.errors import TooManyError, UnavailableError

HOLD_SECONDS = 15
RETRY_SECONDS = 2

log = structlog.get_logger(__name__)

# Takes a slot, or renews one that is held; by Redis's own clock.
_TAKE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Slots:
    """At most `per_user` generations at once for each user."""

    def __init__(self, redis: Redis, *, per_user: int) -> None:
        self._redis = redis
        self._per_user = per_user
        self._script = redis.register_script(_TAKE)

    def take(self, user_id: str, generation_id: str) -> None:
        """Hold a slot for `HOLD_SECONDS`.

        Raises:
            TooManyError: the user has none left.
            UnavailableError: Redis does not answer.
        """
        with _needed():
            taken = self._script(keys=[_key(user_id)], args=[generation_id, self._per_user, HOLD_SECONDS])
        if not taken:
            detail = f"At most {self._per_user} generations run at once for a user; wait for one to end."
            raise TooManyError(detail, retry_after_seconds=RETRY_SECONDS)

    def keep(self, user_id: str, generation_id: str) -> None:
        """Hold it for `HOLD_SECONDS` more; while Redis is away nobody is given a slot anyway."""
        try:
            self.take(user_id, generation_id)
        except (UnavailableError, TooManyError) as error:
            log.warning("generation_slot_not_kept", reason=str(error))

    def free(self, user_id: str, generation_id: str) -> None:
        """Give it back; it comes back by itself if that fails."""
        try:
            self._redis.zrem(_key(user_id), generation_id)
        except (RedisError, OSError) as error:
            log.warning("generation_slot_not_freed", error=type(error).__name__)


@contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError("Redis does not answer, and direct generation needs it; try again shortly.") from error


def _key(user_id: str) -> str:
    return f"mesh:generating:{user_id}"
