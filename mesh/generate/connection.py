"""The Redis connections of direct generation, on both sides: short time-outs, and a second try for a stale one."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry


def connect(redis_url: str) -> Redis:
    """A client that connects when it is first used; every command ends, or fails, within a few seconds."""
    return Redis.from_url(
        redis_url,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
