"""Permits: Celery messages that say "there is work in this queue", and nothing else.

Services hand them to `UnitOfWork.after_commit`; losing one costs two seconds (the sweep tops up), so sending never
raises and never blocks for long.
"""

import time
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from mesh.dispatch.queues import RUN_STEP

log = structlog.get_logger(__name__)

# Order is settled in Postgres: one list a queue, not one for each of kombu's priorities.
TRANSPORT_OPTIONS: dict[str, Any] = {"priority_steps": [0]}

# A broker that hangs must not hold up a caller: Celery's defaults block for over 25 s (measured).
PUBLISH_TRANSPORT_OPTIONS: dict[str, Any] = {
    **TRANSPORT_OPTIONS,
    "socket_timeout": 2,
    "socket_connect_timeout": 1,
    "max_retries": 0,
    "retry_on_timeout": False,
}

# After a failure the broker is left alone for a while: each try may cost up to 2 s.
REST_SECONDS = 5.0

BROKER_ERRORS = (BrokerError, RedisError, OSError)


def producer(name: str, broker_url: str, *, timeout_seconds: float | None = None) -> Celery:
    """A Celery app that only sends, and never for long: for 2 s at most, or what is given."""
    timeouts = {}
    if timeout_seconds is not None:
        timeouts = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    app = Celery(name, broker=broker_url, set_as_current=False)
    app.conf.update(
        task_publish_retry=False,
        task_ignore_result=True,
        broker_transport_options=PUBLISH_TRANSPORT_OPTIONS | timeouts,
        broker_pool_limit=10,
    )
    return app


class Dispatcher(Protocol):
    """What services need of the broker."""

    def send(self, queue: str, count: int = 1, *, refill: bool = False) -> None:
        """Put `count` permits into `queue`; never raises.

        A `refill` permit stands for an empty slot: whoever claims with it passes it on while the queue has more.
        """

    def waiting(self, queue: str) -> int | None:
        """Permits in `queue` that no worker has taken yet; None when the broker does not answer."""


class Permits:
    """The dispatcher that talks to Celery's broker."""

    def __init__(self, broker_url: str) -> None:
        self._celery = producer("mesh-permits", broker_url)
        self._resting_until = 0.0

    def send(self, queue: str, count: int = 1, *, refill: bool = False) -> None:
        """Put `count` permits into `queue`; gives up (and rests for 5 s) when the broker does not take one in 2 s."""
        if time.monotonic() < self._resting_until:
            return
        try:
            for _ in range(count):
                self._celery.send_task(RUN_STEP, args=(queue, refill), queue=queue, ignore_result=True)
        except BROKER_ERRORS as error:
            self._rest("permit_not_sent", queue, error)

    def waiting(self, queue: str) -> int | None:
        """The broker's own count; 0 for a queue that it has never heard of."""
        if time.monotonic() < self._resting_until:
            return None
        with self._celery.connection_for_write() as connection:
            try:
                # The stubs lack the virtual channel that Redis has; every transport's has this method.
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)  # type: ignore[attr-defined]
            except connection.channel_errors:
                return 0
            except BROKER_ERRORS as error:
                self._rest("queue_not_counted", queue, error)
                return None

    def _rest(self, event: str, queue: str, error: Exception) -> None:
        self._resting_until = time.monotonic() + REST_SECONDS
        log.warning(event, queue=queue, error=type(error).__name__, resting_seconds=REST_SECONDS)
