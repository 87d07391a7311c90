"""Fakes for tests, at the places where the system meets time, the broker, Redis and models.  No patching needed.

Each takes part in the real thing: `Tasks(database, Wakeups(FakeDispatcher(), FakeLive()), catalogue, FakeClock())`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from redis import Redis

from mesh.errors import ModelCallError
from mesh.events.log import StoredEvent
from mesh.models.calls import ModelCall, RawReply, Usage


class FakeClock:
    """A `Clock` that stands still until it is told to go on."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def __call__(self) -> datetime:
        """The present instant."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


class FakeDispatcher:
    """A `Dispatcher` that counts.

    `sent` are permits by queue, `refills` those that stand for an empty slot.  `in_broker` is what the broker says
    waits in each queue; None: it does not answer.
    """

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.refills: Counter[str] = Counter()
        self.in_broker: Counter[str] | None = Counter()

    def send(self, queue: str, count: int = 1, *, refill: bool = False) -> None:
        """Note `count` permits."""
        (self.refills if refill else self.sent)[queue] += count

    def waiting(self, queue: str) -> int | None:
        """What `in_broker` says."""
        return None if self.in_broker is None else self.in_broker[queue]


class FakeLive:
    """A `Publisher` that keeps what it was given, in `published`: task and events of each commit."""

    def __init__(self) -> None:
        self.published: list[tuple[str, list[StoredEvent]]] = []

    def publish(self, task_id: str, events: Sequence[StoredEvent]) -> None:
        """Note `events`."""
        self.published.append((task_id, list(events)))


class AwayRedis:
    """A `Shared` Redis that never answers: breakers and limits go by what their own process knows."""

    def ask(self, _question: Callable[[Redis], object], /) -> None:
        """Nothing."""


class FakeModels:
    """A `Translator` whose models give `replies`, one a call: a text, or an error; None never ends until cancelled.

    `calls` are those made.  A call too many breaks the test.
    """

    def __init__(
        self,
        replies: Iterable[str | ModelCallError | None],
        *,
        usage: Usage = Usage(prompt_tokens=100, completion_tokens=10),  # noqa: B008  # frozen
        cost_usd: Decimal | None = Decimal("0.001"),
    ) -> None:
        self._replies = iter(replies)
        self._usage = usage
        self._cost_usd = cost_usd
        self.calls: list[ModelCall] = []

    def start(self, call: ModelCall) -> "Future[RawReply]":
        """Answer `call` with the next reply."""
        self.calls.append(call)
        reply = next(self._replies)
        future: Future[RawReply] = Future()
        if isinstance(reply, str):
            future.set_result(RawReply(reply, self._usage, self._cost_usd))
        elif reply is not None:
            future.set_exception(reply)
        return future
