"""Topics and readers: a task's events on their way to those in this process who read its stream.

api.streams (the hub) -> Topic -> Reader.  An event is encoded once a format, however many read it.
"""

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from gevent.event import Event
from gevent.queue import Empty, SimpleQueue

from api.stream_texts import TextsSent
from mesh.events.log import StoredEvent

STALLED_AT = 1_000


@dataclass(frozen=True, slots=True, eq=False)  # there are two, told apart by identity
class Format:
    """How a stream stands on the wire; `farewell` takes the milliseconds to wait before reconnecting."""

    mimetype: str
    opening: bytes
    heartbeat: bytes
    event: Callable[[StoredEvent], bytes]
    farewell: Callable[[int], bytes]


class Signal(Enum):
    """What a reader is told beside events; all but `BEAT` end its stream."""

    BEAT = auto()
    REVOKED = auto()
    DRAIN = auto()
    STALLED = auto()
    GONE = auto()


class Batch:
    """Consecutive events, at least one."""

    __slots__ = ("_encoded", "events")

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        self.events = events
        self._encoded: dict[Format, bytes] = {}

    @property
    def first(self) -> int:
        """The first event's number."""
        return self.events[0].sequence

    @property
    def last(self) -> int:
        """The last event's number."""
        return self.events[-1].sequence

    @property
    def completes(self) -> bool:
        """Whether a run of the task ends with it."""
        return self.events[-1].type == "complete"

    def after(self, position: int) -> "Batch | None":
        """What of it is numbered above `position`."""
        if position < self.first:
            return self
        rest = [one for one in self.events if one.sequence > position]
        return Batch(rest) if rest else None

    def encoded(self, wire: Format) -> bytes:
        """Its bytes in this format, made once."""
        if wire not in self._encoded:
            self._encoded[wire] = b"".join(map(wire.event, self.events))
        return self._encoded[wire]


class Piece(Batch):
    """A token: it comes among batches, and has no number."""

    @property
    def token(self) -> StoredEvent:
        """The token itself."""
        return self.events[0]


class Reader:
    """One open stream: how far it was sent, and what waits for it."""

    def __init__(
        self,
        wire: Format,
        position: int,
        *,
        key_id: str | None,
        connection: socket.socket | None,
        texts: TextsSent | None = None,
        seen: int = 0,
    ) -> None:
        """`connection` is the caller's, shut when it stalls: whoever is blocked in sending sees no flag.

        A reader with `texts` is sent tokens too.  Events after `position` up to `seen` are taken note of, not sent.
        """
        self.wire = wire
        self.texts = texts
        self._seen = seen
        self.position = position
        self.complete = False  # the last event sent was `complete`
        self.key_id = key_id
        self.ending = False
        self._connection = connection
        self._queue: SimpleQueue[Batch | Signal] = SimpleQueue()
        self._waiting = 0

    def offer(self, item: Batch | Signal) -> None:
        """Queue an item; past `STALLED_AT` waiting events the stream is cut instead."""
        if self.ending:
            return
        self._waiting += _weight(item)
        if self._waiting > STALLED_AT:
            item = Signal.STALLED
            self._shut(socket.SHUT_RDWR)
        elif item is Signal.DRAIN:
            # The farewell still goes out; then the server finds no further request here and need not wait for one.
            self._shut(socket.SHUT_RD)
        self.ending = isinstance(item, Signal) and item is not Signal.BEAT
        self._queue.put(item)

    def take(self) -> Batch | Signal:
        """Wait for the next item."""
        item = self._queue.get()
        self._waiting -= _weight(item)
        return item

    def take_within(self, seconds: float) -> Batch | Signal | None:
        """Wait for the next item; None when none has come for `seconds`."""
        try:
            item = self._queue.get(timeout=max(0.0, seconds))
        except Empty:
            return None
        self._waiting -= _weight(item)
        return item

    def send(self, batch: Batch) -> bytes:
        """The bytes of `batch`, which is counted as sent."""
        self.position, self.complete = batch.last, batch.completes
        if self.texts is not None:
            self.texts.learn(batch.events)
        news = batch.after(self._seen)
        return news.encoded(self.wire) if news else b""

    def _shut(self, how: int) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # the caller has gone already
                self._connection.shutdown(how)


def _weight(item: Batch | Signal) -> int:
    return len(item.events) if isinstance(item, Batch) else 1


class Topic:
    """A task that somebody here reads; or, not `stored`, a channel that has no rows to be read again."""

    def __init__(self, task_id: str, *, stored: bool = True) -> None:
        self.task_id = task_id
        self.stored = stored
        self.readers: set[Reader] = set()
        self.standing = Event()  # no need to wait for the subscription (any more)
        self.position: int | None = None  # every event up to here was delivered; None until the first reader is set
        self._early: list[StoredEvent] = []  # tokens that came before the event that they follow

    def settle(self, position: int) -> None:
        """A reader has got all that is stored up to `position`: deliver what comes next."""
        if self.position is None:
            self.position = position

    @property
    def watched(self) -> bool:
        """Whether somebody here wants tokens."""
        return any(reader.texts is not None for reader in self.readers)

    def deliver(self, events: Sequence[StoredEvent]) -> bool:
        """Hand on what is new; False when numbers before it are missing, and then nothing is handed on."""
        if events[0].sequence == 0:
            return min(map(self._show, events))  # all of them, also past one that came early
        batch = Batch(events) if self.position is None else Batch(events).after(self.position)
        if batch is None:
            return True
        if self.stored and self.position is not None and batch.first != self.position + 1:
            return False
        self.position = batch.last
        for reader in tuple(self.readers):
            reader.offer(batch)
        early, self._early = self._early, []
        for one in early:
            self._show(one)
        return True

    def end(self, why: Signal) -> None:
        """End every stream of it here."""
        for reader in tuple(self.readers):
            reader.offer(why)

    def _show(self, token: StoredEvent) -> bool:
        if self.position is not None and token.data["sequence"] > self.position:
            if len(self._early) < STALLED_AT:  # what is left out is read from Redis, as any gap
                self._early.append(token)
            return False
        piece = Piece([token])
        for reader in tuple(self.readers):
            if reader.texts is not None:
                reader.offer(piece)
        return True
