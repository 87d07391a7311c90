"""Tasks for callers: submit, read, process, cancel.

api.resources.tasks -> here -> graph.  A submission is one transaction - task, first decision, first event - and after
it a permit for a coordinator; answered means stored.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from mesh.clock import Clock
from mesh.costs import budgets
from mesh.db.tables import networks, tasks
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, Problem
from mesh.ids import first_id
from mesh.models.catalogue import Catalogue
from mesh.security.access import accessible, require
from mesh.security.principal import Principal, Role
from mesh.tasks import graph, submission
from mesh.tasks.states import ENDED_TASKS, TaskStatus
from mesh.tasks.views import NewTask, StepView, TaskRef, TaskView, new_task_view, step_views, task_views
from mesh.tasks.wakeups import Wakeups

# An identifier is made after the instant that is stored as its task's, and not much later.
_MADE_WITHIN_SECONDS = 60

# Tasks that are cancelled in one transaction when their network is deleted.
STOP_BATCH = 100


class Tasks:
    """Everything that callers do with tasks."""

    def __init__(self, database: Database, wakeups: Wakeups, catalogue: Catalogue, clock: Clock) -> None:
        self._database = database
        self._wakeups = wakeups
        self._catalogue = catalogue
        self._clock = clock

    def submit(
        self, principal: Principal, network_id: str, new: NewTask, *, within: UnitOfWork | None = None
    ) -> TaskView:
        """Accept a task; started at once unless `auto_process` is off.

        Raises:
            InvalidInputError: an unknown model, or a deadline that has passed.
            ForbiddenError: only services submit on behalf of others.
        """
        now = self._clock()
        owner = _owner(principal, new)
        self._check(new, now)
        with self._database.begin(atomic=new.budget_usd is not None, within=within) as work:
            row, queues = submission.store(work.connection, principal, network_id, new, owner=owner, now=now)
            if new.budget_usd is not None:
                budgets.limit(work.connection, budgets.Kind.TASK, row.id, new.budget_usd, now=now)
            self._wakeups.permits(work, queues)
            return new_task_view(row, steps_total=len(queues))

    def get(self, principal: Principal, network_id: str, task_id: str) -> TaskView:
        """One task; NotFoundError when it is not in that network, or not the principal's."""
        with self._database.begin() as work:
            row = _find(work, principal, task_id, network_id)
            return task_views(work.connection, [row])[0]

    def find(self, principal: Principal, task_id: str) -> TaskRef:
        """Where a task stands, for streams that know only its id; NotFoundError as for `get`."""
        with self._database.begin() as work:
            row = _find(work, principal, task_id)
        return TaskRef(row.id, row.network_id, TaskStatus(row.status))

    def list(
        self,
        principal: Principal,
        network_id: str,
        *,
        limit: int,
        before: str | None = None,
        status: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
    ) -> list[TaskView]:
        """The network's tasks, newest first, ids below `before`.

        By ix_tasks_network_id_id, or ix_tasks_network_id_status_id; times bound the ids, too, for their sake.
        """
        query = select(tasks).where(tasks.c.network_id == network_id).order_by(tasks.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(tasks.c.id < before)
        if status is not None:
            query = query.where(tasks.c.status == status)
        if created_from is not None:
            query = query.where(tasks.c.created_at >= created_from, tasks.c.id >= first_id("task", created_from))
        if created_to is not None:
            latest = first_id("task", created_to, plus_seconds=_MADE_WITHIN_SECONDS)
            query = query.where(tasks.c.created_at < created_to, tasks.c.id < latest)
        with self._database.begin() as work:
            require(work.connection, principal, network_id)
            return task_views(work.connection, work.connection.execute(query).all())

    def process(self, principal: Principal, network_id: str, task_id: str) -> TaskView:
        """Start a held task or resume one that stopped; one that runs or is completed stays as it is.

        Raises:
            ConflictError: its deadline has passed.
        """
        now = self._clock()
        with self._database.begin() as work:
            network = require(work.connection, principal, network_id, keep=True)
            _find(work, principal, task_id, network_id)
            task = _locked(work, task_id)
            if task.status in {TaskStatus.PROCESSING, TaskStatus.COMPLETED}:
                return task_views(work.connection, [task])[0]
            if task.deadline is not None and task.deadline <= now:
                raise ConflictError("The task's deadline has passed; submit a new task.")
            changes = graph.resume(work.connection, task, timeout_seconds=network.timeout_seconds, now=now)
            graph.publish(work, self._wakeups, task, changes, now=now)
            self._wakeups.permits(work, changes.queues)
            return task_views(work.connection, [_locked(work, task_id)])[0]

    def cancel(self, principal: Principal, network_id: str, task_id: str) -> TaskView:
        """Stop a task: it says so at once, starts nothing more, and calls under way are stopped within seconds.

        Raises:
            ConflictError: it is completed or failed.
        """
        with self._database.begin() as work:
            _find(work, principal, task_id, network_id)
            task = _locked(work, task_id)
            if task.status != TaskStatus.CANCELLED:
                self._cancel(work, task)
            return task_views(work.connection, [_locked(work, task_id)])[0]

    def steps(self, principal: Principal, network_id: str, task_id: str) -> Sequence[StepView]:
        """The task's graph so far."""
        with self._database.begin() as work:
            _find(work, principal, task_id, network_id)
            return step_views(work.connection, task_id)

    def stop_network(self, network_id: str) -> None:
        """Cancel all that runs or waits in a deleted network, where nothing starts any more; in small transactions."""
        last: str | None = ""
        while last is not None:
            last = self._stop_batch(network_id, last)

    def _stop_batch(self, network_id: str, after: str) -> str | None:
        """Cancel the next tasks with ids above `after`; answers the last one's (ix_tasks_network_id_id)."""
        query = (
            select(tasks)
            .where(tasks.c.network_id == network_id, tasks.c.id > after, tasks.c.status.not_in(ENDED_TASKS))
            .order_by(tasks.c.id)
            .limit(STOP_BATCH)
            .with_for_update(key_share=True)
        )
        with self._database.begin() as work:
            found = work.connection.execute(query).all()
            for task in found:
                self._cancel(work, task)
        return found[-1].id if found else None

    def _cancel(self, work: UnitOfWork, task: Row[Any]) -> None:
        now = self._clock()
        changes = graph.end(work.connection, task, TaskStatus.CANCELLED, now=now)
        graph.publish(work, self._wakeups, task, changes, now=now)

    def _check(self, new: NewTask, now: datetime) -> None:
        model = new.model_selection.get("model")
        if model is not None:
            self._catalogue.require(model, "/model_selection/model")
        if new.deadline is not None and new.deadline <= now:
            raise InvalidInputError(
                "The deadline has passed.", [Problem("/deadline", "in_the_past", "Give an instant in the future.")]
            )


def _owner(principal: Principal, new: NewTask) -> str:
    if new.on_behalf_of is None:
        return principal.user_id
    if principal.role is not Role.SERVICE:
        raise ForbiddenError("Only a service key may submit on behalf of a user.")
    return new.on_behalf_of


def _find(work: UnitOfWork, principal: Principal, task_id: str, network_id: str | None = None) -> Row[Any]:
    query = select(tasks).join(networks).where(tasks.c.id == task_id, accessible(principal))
    if network_id is not None:
        query = query.where(tasks.c.network_id == network_id)
    row = work.connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"There is no task {task_id!r}.")
    return row


def _locked(work: UnitOfWork, task_id: str) -> Row[Any]:
    row = graph.lock(work.connection, task_id)
    if row is None:
        raise NotFoundError(f"There is no task {task_id!r}.")
    return row
