"""A generation's stream for its caller: what is passed on, and how each kind of end is told."""

import json
from collections.abc import Sequence
from typing import Any, cast

import gevent
import pytest
from gevent import socket as gevent_socket

from api.relay import Relay, watch
from api.resources.streams import NDJSON
from api.stream_topics import Batch, Reader, Signal
from mesh.events.log import StoredEvent

Item = Batch | Signal


def batch(first: int, *types: str) -> Batch:
    return Batch([StoredEvent(number, type_, {"n": number}) for number, type_ in enumerate(types, first)])


def new_reader() -> Reader:
    return Reader(NDJSON, 0, key_id=None, connection=None)


def told(items: Sequence[Item], *, silence_seconds: float = 1.0) -> list[dict[str, Any]]:
    """What the caller is sent, an empty object for a heartbeat."""
    reader = new_reader()
    for item in items:
        reader.offer(item)
    lines = list(Relay(NDJSON, reader, lambda: None, silence_seconds=silence_seconds))
    assert lines[0] == NDJSON.opening
    return [json.loads(line) if line.strip() else {} for line in lines[1:]]


def test_what_the_worker_tells_is_passed_on_but_its_signs_of_life() -> None:
    events = told([batch(1, "alive"), batch(2, "start", "token"), Signal.BEAT, batch(4, "alive"), batch(5, "complete")])
    assert [event.get("event") for event in events] == ["start", "token", None, "complete"]


def test_nothing_follows_the_end() -> None:
    assert [event["event"] for event in told([batch(1, "error"), batch(2, "token")])] == ["error"]


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([], "no_worker"),
        ([batch(1, "alive")], "worker_lost"),
        ([batch(2, "token")], "stream_broken"),
        ([batch(1, "start"), Signal.DRAIN], "unavailable"),
        ([batch(1, "start"), Signal.REVOKED], "unauthenticated"),
    ],
)
def test_what_breaks_off_ends_with_an_error(items: list[Item], code: str) -> None:
    last = told(items, silence_seconds=0.05)[-1]
    assert (last["event"], last["code"]) == ("error", code)
    assert last["detail"]


def test_heartbeats_do_not_hide_that_the_worker_is_silent() -> None:
    reader = new_reader()

    def beat() -> None:
        for _ in range(100):
            reader.offer(Signal.BEAT)
            gevent.sleep(0.05)  # one after the other: timers set together after a long pause would be due together

    beating = gevent.spawn(beat)
    lines = list(Relay(NDJSON, reader, lambda: None, silence_seconds=0.2))
    beating.kill()
    assert json.loads(lines[-1])["code"] == "no_worker"
    assert len(lines) < 60


def test_a_caller_that_hangs_up_ends_it_without_a_word() -> None:
    ours, callers = gevent_socket.socketpair()
    reader = new_reader()
    with ours:
        stop = watch(cast("Any", ours), reader)
        reader.offer(batch(1, "start"))
        callers.close()
        lines = list(Relay(NDJSON, reader, lambda: None))
        stop()
    assert len(lines) == 2
