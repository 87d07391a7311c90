"""What leaves after a commit: permits for queues that got work, and events for those who watch."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from mesh.db.unit_of_work import UnitOfWork
from mesh.dispatch.permits import Dispatcher
from mesh.events.log import StoredEvent


class Publisher(Protocol):
    """What announces stored events: `mesh.events.live.LivePublisher`."""

    def publish(self, task_id: str, events: Sequence[StoredEvent]) -> None:
        """Send `events`, the task's next ones in their order; never raises."""


class Wakeups:
    """Sends once the transaction has committed; what is lost here is made up for by the sweep and by re-reading."""

    def __init__(self, dispatcher: Dispatcher, live: Publisher) -> None:
        self._dispatcher = dispatcher
        self._live = live

    def permits(self, work: UnitOfWork, queues: Iterable[str]) -> None:
        """One permit for each step that became ready, by its queue."""
        for queue, count in Counter(queues).items():
            work.after_commit(partial(self._dispatcher.send, queue, count))

    def events(self, work: UnitOfWork, task_id: str, stored: Sequence[StoredEvent]) -> None:
        """The events as they were stored."""
        if stored:
            work.after_commit(lambda: self._live.publish(task_id, stored))
