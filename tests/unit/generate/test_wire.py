"""What a worker tells: in order, numbered, text joined, and whether anybody listens."""

from typing import cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from mesh.events.live import decode
from mesh.generate.wire import Outbox, Wire


class FakeRedis:
    """Pub/Sub with so many listeners; None: it is away."""

    def __init__(self, listeners: int | None = 1) -> None:
        self.listeners = listeners
        self.sent: list[tuple[str, str]] = []

    def publish(self, channel: str, message: str) -> int:
        if self.listeners is None:
            raise RedisConnectionError
        self.sent.append((channel, message))
        return self.listeners


def wire(redis: FakeRedis) -> Wire:
    return Wire(cast("Redis", redis), "generation_1")


def test_events_are_numbered_from_one_over_all_messages() -> None:
    redis = FakeRedis()
    sending = wire(redis)
    assert sending.send([("start", {"model": "m"}), ("token", {"text": "a"})])
    assert sending.send([])
    assert sending.send([("complete", {})])
    events = [event for _, message in redis.sent for event in decode(message.encode())]
    assert [(event.sequence, event.type) for event in events] == [
        (1, "start"),
        (2, "token"),
        (3, "alive"),
        (4, "complete"),
    ]
    assert {channel for channel, _ in redis.sent} == {"mesh:task:generation_1"}


@pytest.mark.parametrize("listeners", [0, None])
def test_it_shows_when_nobody_listens_or_redis_is_away(listeners: int | None) -> None:
    assert not wire(FakeRedis(listeners)).send([])


def test_text_that_waits_is_told_at_once_and_never_across_another_event() -> None:
    outbox = Outbox()
    outbox.put("start", model="m")
    for text in ("a", "b"):
        outbox.put("token", text=text)
    outbox.put("fallback", restarted=True)
    for text in ("c", "d"):
        outbox.put("token", text=text)
    assert outbox.take(1) == [
        ("start", {"model": "m"}),
        ("token", {"text": "ab"}),
        ("fallback", {"restarted": True}),
        ("token", {"text": "cd"}),
    ]


def test_nothing_to_tell_is_told_as_nothing() -> None:
    assert Outbox().take(0.01) == []
