"""The wire between a worker and the caller's stream: a Pub/Sub channel of the generation's own, and what waits for it.

runner -> here -> Redis -> api.streams.  Redis answers how many have received a message: nobody means that the caller is
gone, or that text was lost on the way, and then there is no use in going on.
"""

from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from redis import Redis, RedisError

from mesh.events.live import CHANNEL_PREFIX, encode
from mesh.events.log import StoredEvent
from mesh.generate.views import ALIVE

log = structlog.get_logger(__name__)

Told = tuple[str, Mapping[str, Any]]
"""What the caller is told: an event's type and its fields."""


class Wire:
    """Sends what a generation tells, numbered from 1."""

    def __init__(self, redis: Redis, generation_id: str) -> None:
        self._redis = redis
        self._channel = CHANNEL_PREFIX + generation_id
        self._sequence = 0

    def send(self, told: Sequence[Told]) -> bool:
        """Send `told`, or a sign of life when it is empty; whether somebody listens."""
        events = [
            StoredEvent(number, type_, dict(fields))
            for number, (type_, fields) in enumerate(told or [(ALIVE, {})], self._sequence + 1)
        ]
        self._sequence = events[-1].sequence
        try:
            return self._redis.publish(self._channel, encode(events)) > 0
        except (RedisError, OSError) as error:
            log.warning("generation_not_sent", error=type(error).__name__)
            return False


class Outbox:
    """What is to be told, put by the threads that know it, taken by the one that sends."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Told] = SimpleQueue()

    def put(self, type_: str, **fields: object) -> None:
        """Tell an event; never waits."""
        self._queue.put((type_, fields))

    def take(self, seconds: float) -> list[Told]:
        """All that waits, text that came in pieces joined; nothing if nothing comes for `seconds`."""
        try:
            found = [self._queue.get(timeout=seconds)]
            while not self._queue.empty():  # only this thread takes
                found.append(self._queue.get())
        except Empty:
            return []
        return _joined(found)


def _joined(told: Sequence[Told]) -> list[Told]:
    joined: list[Told] = []
    for type_, fields in told:
        if joined and type_ == joined[-1][0] == "token":
            joined[-1] = (type_, {"text": joined[-1][1]["text"] + fields["text"]})
        else:
            joined.append((type_, fields))
    return joined
