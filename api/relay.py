"""Relaying a generation: what its worker tells, as bytes for the caller, until it ends or somebody goes away.

worker -> Redis -> api.streams (the hub) -> here -> the caller.  Nothing of it is stored: what is lost cannot be read
again, so a gap, or silence, ends the stream with an `error`.
"""

import socket
import time
from collections.abc import Callable, Iterator

import gevent

from api.stream_topics import Batch, Format, Reader, Signal
from mesh.events.log import StoredEvent
from mesh.generate.views import ALIVE, ENDS

# A worker gives a sign of life every second; nobody takes a job within this only when there is no worker with a slot.
SILENCE_SECONDS = 4.0
KEEP_SECONDS = 5.0

_SAID = {
    Signal.DRAIN: ("unavailable", "The server is stopping; try again shortly."),
    Signal.REVOKED: ("unauthenticated", "The API key was revoked."),
}


class Relay:
    """One caller's stream; `keep` is called every few seconds while it lasts."""

    def __init__(
        self, wire: Format, reader: Reader, keep: Callable[[], None], *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._wire = wire
        self._reader = reader
        self._keep = keep
        self._silence_seconds = silence_seconds
        self._position = 0

    def __iter__(self) -> Iterator[bytes]:
        """The stream's bytes."""
        yield self._wire.opening
        kept = heard = time.monotonic()
        while True:
            item = self._reader.take_within(heard + self._silence_seconds - time.monotonic())
            if isinstance(item, Batch) and item.first == self._position + 1:
                heard, self._position = time.monotonic(), item.last
                yield from (self._wire.event(event) for event in item.events if event.type != ALIVE)
                if item.events[-1].type in ENDS:
                    return
            elif item is Signal.BEAT:
                yield self._wire.heartbeat
            elif item in (Signal.GONE, Signal.STALLED):
                return
            else:
                yield self._wire.event(self._error(item))
                return
            if time.monotonic() - kept > KEEP_SECONDS:
                kept = time.monotonic()
                self._keep()

    def _error(self, item: Batch | Signal | None) -> StoredEvent:
        if isinstance(item, Signal):
            code, detail = _SAID[item]
        elif item is not None:
            code, detail = "stream_broken", "Some of the text was lost on its way; try again."
        elif self._position == 0:
            code, detail = "no_worker", "No worker is free for it; try again shortly."
        else:
            code, detail = "worker_lost", "The worker that generated it does not answer any more; try again."
        return StoredEvent(0, "error", {"code": code, "detail": detail})


def watch(connection: socket.socket, reader: Reader) -> Callable[[], object]:
    """Tell `reader` when the caller has hung up, which else would show only when it is sent something.

    The answer ends the watching, as must be before anything else is read from `connection`.
    """
    return gevent.spawn(_watch, connection, reader).kill


def _watch(connection: socket.socket, reader: Reader) -> None:
    try:
        gone = not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        gone = True
    if gone:
        reader.offer(Signal.GONE)
