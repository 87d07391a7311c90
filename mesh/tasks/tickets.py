"""Stream tickets: for browsers, whose EventSource can send no header, a ticket in the address of a task's stream.

api.resources.tickets issues, api.auth redeems.  Nothing is stored: a ticket is sealed for its task, and names the key
on whose behalf it was made, whose rights it has as they are when it is used.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from mesh.clock import Clock
from mesh.db.tables import networks, tasks
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import NotFoundError, UnauthenticatedError
from mesh.security.access import accessible
from mesh.security.keyring import Keyring
from mesh.security.keys import Keys
from mesh.security.principal import LOCAL, Principal
from mesh.security.token import TICKET
from mesh.tasks import graph
from mesh.tasks.states import ENDED_TASKS, TaskStatus

# So long after its task's time is over a ticket still reads what happened, e.g. after a connection was lost.
GRACE = timedelta(minutes=15)

_PURPOSE = "stream-ticket"
_REFUSED = "The ticket does not hold: it is malformed, expired, or for another task, or its key was revoked."


@dataclass(frozen=True)
class Ticket:
    """It opens streams of one task, until `expires_at` at least and for as long as the task may run."""

    ticket: str = field(repr=False)
    expires_at: datetime


class Tickets:
    """Makes tickets and tells whose they are; `local`: there are callers without keys."""

    def __init__(self, database: Database, keyring: Keyring, keys: Keys, clock: Clock, *, local: bool) -> None:
        self._database = database
        self._keyring = keyring
        self._keys = keys
        self._clock = clock
        self._local = local

    def issue(self, principal: Principal, task_id: str, *, within: UnitOfWork | None = None) -> Ticket:
        """A ticket for the task's streams.

        Raises:
            NotFoundError: there is no such task, or it is not the principal's.
        """
        query = (
            select(tasks.c.status, tasks.c.expires_at, tasks.c.deadline, networks.c.timeout_seconds)
            .join(networks)
            .where(tasks.c.id == task_id, accessible(principal))
        )
        with self._database.begin(atomic=False, within=within) as work:
            task = work.connection.execute(query).first()
        if task is None:
            raise NotFoundError(f"There is no task {task_id!r}.")
        ends_at: datetime = task.expires_at
        if task.status != TaskStatus.PROCESSING:  # as if it was started, or went on, now
            ends_at = graph.expiry(self._clock(), task.timeout_seconds, task.deadline)
        expires_at = (ends_at + GRACE).replace(microsecond=0)
        value = f"{int(expires_at.timestamp())} {principal.key_id or ''}"
        return Ticket(TICKET + self._keyring.seal(_PURPOSE, value, task_id), expires_at)

    def redeem(self, ticket: str, task_id: str) -> Principal:
        """On whose behalf the ticket was made; whether the task is theirs is asked after, as of everybody.

        Raises:
            UnauthenticatedError: whatever is wrong with it; the message is always the same.
        """
        value = self._keyring.open(_PURPOSE, ticket.removeprefix(TICKET), task_id)
        if value is None:
            raise UnauthenticatedError(_REFUSED)
        expires_at, _, key_id = value.partition(" ")
        if datetime.fromtimestamp(int(expires_at), UTC) <= self._clock() and not self._may_run(task_id):
            raise UnauthenticatedError(_REFUSED)
        if key_id:
            return self._keys.holder(key_id)
        if not self._local:
            raise UnauthenticatedError(_REFUSED)
        return LOCAL

    def _may_run(self, task_id: str) -> bool:
        """Whether the task has not ended: it was paused, or resumed, since the ticket was made."""
        with self._database.begin(atomic=False) as work:
            status = work.connection.execute(select(tasks.c.status).where(tasks.c.id == task_id)).scalar()
        return status is not None and TaskStatus(status) not in ENDED_TASKS
