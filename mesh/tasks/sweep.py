"""The sweep: whatever was lost on the way is found here, every two seconds, from the rows alone.

workers.heartbeat -> here, in whichever process holds the advisory lock.  It needs neither Celery nor Redis nor a free
slot, and each part is a transaction of its own, so that one that fails does not stop the others.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete, exists, func, select, text, update

from mesh.clock import Clock
from mesh.costs import accounts, budgets, ledger
from mesh.db.tables import steps, tasks, workers
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.dispatch.permits import Dispatcher
from mesh.dispatch.queues import CUSTOM, is_custom
from mesh.errors import UnavailableError
from mesh.events import types
from mesh.tasks import graph
from mesh.tasks.claims import HOP, WAITING_QUEUES, make_ready, unpark
from mesh.tasks.graph import Changes
from mesh.tasks.leases import LEASE, end_leases_of_the_dead
from mesh.tasks.orchestrator import Failure, Orchestrator, step_failed_for_good
from mesh.tasks.states import StepState, TaskStatus
from mesh.tasks.wakeups import Wakeups

log = structlog.get_logger(__name__)


# A step that took so many workers with it is failed: it may be what kills them.
MOST_LOSSES = 8

# Rows of dead workers are kept a while, for whoever looks what happened.
WORKER_ROWS_KEPT = timedelta(hours=1)

# A living worker ends the calls of an ended step within seconds, and a generation in five minutes
# (`mesh.generate.views`): what is open so long after was given up on.
STEP_ENDED = timedelta(minutes=1)
GENERATION_BEGAN = timedelta(minutes=6)

CONTINUE_EVERY = 5

_BATCH = 200


class Sweep:
    """One pass over all that may have been left behind."""

    def __init__(
        self,
        database: Database,
        orchestrator: Orchestrator,
        dispatcher: Dispatcher,
        wakeups: Wakeups,
        clock: Clock,
        *,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = database
        self._orchestrator = orchestrator
        self._dispatcher = dispatcher
        self._wakeups = wakeups
        self._clock = clock
        self._lease = lease
        self._passes = 0

    def run(self, *, reclaim: bool = True) -> None:
        """Reclaim, expire, continue, top up; without `reclaim` after an outage, until every lease could be renewed."""
        parts = [*([self._reclaim] if reclaim else []), self._expire, self._resume, self._requeue, self._top_up]
        # Nothing known leaves a task like that; it is looked for all the same, but it costs more.
        if self._passes % CONTINUE_EVERY == 0:
            parts.append(self._continue)
        self._passes += 1
        for part in parts:
            try:
                part()
            except Exception:  # one part must not stop the others; all come again in two seconds
                log.exception("sweep_part_failed", part=part.__name__.strip("_"))

    def _reclaim(self) -> None:
        """Steps of dead workers go back to ready, and their calls are closed; a worker is dead when its lease is over.

        After a restart of the database itself nobody could renew, so every lease gets a fresh period from then.
        """
        with self._database.begin() as work:
            if work.connection.execute(_JUST_STARTED, {"lease": self._lease}).scalar_one():
                return
            end_leases_of_the_dead(work.connection, lease=self._lease)
            lost = [(row.id, row.attempt) for row in work.connection.execute(_LOST, {"limit": _BATCH})]
        self.give_back(lost)
        with self._database.begin() as work:
            abandoned = work.connection.execute(_ABANDONED, self._abandoned_before()).scalars().all()
        for call_id in abandoned:  # each by itself: budgets are locked in the order of their ids
            with self._database.begin() as work:
                ledger.close_unknown(work.connection, call_id, now=self._clock(), error_code="worker_lost")
        with self._database.begin() as work:
            work.connection.execute(delete(workers).where(workers.c.lease_until < func.now() - WORKER_ROWS_KEPT))

    def _abandoned_before(self) -> dict[str, Any]:
        now = self._clock()
        return {"limit": _BATCH, "step_ended": now - STEP_ENDED, "generation_began": now - GENERATION_BEGAN}

    def give_back(self, lost: Sequence[tuple[str, int]]) -> None:
        """Let others run steps whose attempt nobody is at, though it counts as running: (step, attempt)."""
        for step_id, attempt in lost:
            with self._database.begin() as work:
                task_id = work.connection.execute(select(steps.c.task_id).where(steps.c.id == step_id)).scalar()
            if task_id is not None:
                log.warning("step_reclaimed", step_id=step_id, task_id=task_id, attempt=attempt)
                self._with_task(
                    task_id,
                    partial(self._reclaim_step, step_id, attempt),
                    statuses=frozenset({TaskStatus.PROCESSING, TaskStatus.PAUSED}),
                )

    def _reclaim_step(self, step_id: str, attempt: int, work: UnitOfWork, task: Row[Any]) -> Changes:
        """Give a lost step back; what its calls used is unknown, so they are charged their reservation."""
        now = self._clock()
        step = work.connection.execute(
            update(steps)
            .where(steps.c.id == step_id, steps.c.attempt == attempt, steps.c.state == StepState.RUNNING)
            .values(losses=steps.c.losses + 1)
            .returning(steps)
        ).first()
        if step is None:
            return Changes()
        ledger.close_step(work.connection, step_id, now=now, error_code="worker_lost")
        if task.status == TaskStatus.PAUSED:
            work.connection.execute(
                update(steps).where(steps.c.id == step_id).values(state=StepState.BLOCKED, turn=None, worker_id=None)
            )
            return Changes()
        if step.losses < MOST_LOSSES:
            return Changes(queues=make_ready(work.connection, [step_id], from_states=[StepState.RUNNING]))
        failure = Failure("worker_lost", f"{step.losses} workers died while they ran this step.", retry=False)
        work.connection.execute(
            update(steps)
            .where(steps.c.id == step_id)
            .values(state=StepState.FAILED, finished_at=now, error={"code": failure.code, "detail": failure.detail})
        )
        event = types.StepFailed(
            step_id, step.agent_name, step.agent_id, failure.code, failure.detail, will_retry=False
        )
        more = step_failed_for_good(work.connection, task, step.kind, failure, now=now)
        return Changes([event, *more.events], more.queues)

    def _expire(self) -> None:
        """Tasks whose time is over, whether anybody works on them or not.

        By ix_tasks_processing and ix_tasks_pending_deadline.
        """
        now = self._clock()
        running = (tasks.c.status == TaskStatus.PROCESSING) & (tasks.c.expires_at <= now)
        held = tasks.c.status.in_([TaskStatus.PENDING, TaskStatus.PAUSED]) & (tasks.c.deadline <= now)
        for condition in (running, held):
            with self._database.begin() as work:
                late = work.connection.execute(select(tasks.c.id).where(condition).limit(_BATCH)).scalars().all()
            for task_id in late:
                self._alone(task_id, partial(self._orchestrator.expire_within, task_id=task_id))

    def _resume(self) -> None:
        """Paused tasks whose next call fits into their budgets again: a limit was raised, or a new period began."""
        now = self._clock()
        budgets.count(self._database, now=now)
        with self._database.begin() as work:
            ready = work.connection.execute(_AFFORDABLE, {"now": now, "limit": _BATCH}).all()
        for row in ready:
            self._with_task(
                row.id,
                partial(self._resume_task, row.timeout_seconds, now),
                statuses=frozenset({TaskStatus.PAUSED}),
            )

    def _resume_task(self, timeout_seconds: int, now: datetime, work: UnitOfWork, task: Row[Any]) -> Changes:
        return graph.resume(work.connection, task, timeout_seconds=timeout_seconds, now=now)

    def _continue(self) -> None:
        """Tasks that nobody goes on with: processing, but without a step that is ready or running."""
        stuck = ~exists().where(steps.c.task_id == tasks.c.id, steps.c.state.in_([StepState.READY, StepState.RUNNING]))
        query = select(tasks.c.id).where(tasks.c.status == TaskStatus.PROCESSING, stuck).limit(_BATCH)
        with self._database.begin() as work:
            found = work.connection.execute(query).scalars().all()
        for task_id in found:
            log.error("task_continued", task_id=task_id)  # a fault of ours, and mended
            self._with_task(task_id, self._continue_task)

    def _continue_task(self, work: UnitOfWork, task: Row[Any]) -> Changes:
        around = graph.look_around(work.connection, task)
        return graph.continue_run(work.connection, task, around, now=self._clock())

    def _with_task(
        self,
        task_id: str,
        change: Callable[[UnitOfWork, Row[Any]], Changes],
        *,
        statuses: frozenset[TaskStatus] = frozenset({TaskStatus.PROCESSING}),
    ) -> None:
        """Change a task's graph in a transaction of its own, if the task still has one of `statuses`."""

        def mend(work: UnitOfWork) -> None:
            task = graph.lock(work.connection, task_id)
            if task is None or task.status not in statuses:
                return
            changes = change(work, task)
            graph.publish(work, self._wakeups, task, changes, now=self._clock())
            self._wakeups.permits(work, changes.queues)

        self._alone(task_id, mend)

    def _alone(self, task_id: str, mend: Callable[[UnitOfWork], None]) -> None:
        """Do something for one task; one that cannot be helped must not keep the others waiting."""
        try:
            with self._database.begin() as work:
                mend(work)
        except UnavailableError:
            raise
        except Exception:  # see above; it is looked at again in the next pass
            log.exception("task_not_mended", task_id=task_id)

    def _requeue(self) -> None:
        """Steps that wait until now get their turn; those of a custom pool that died go to `agent.custom`."""
        now = self._clock()
        with self._database.begin() as work:
            waiting = work.connection.execute(WAITING_QUEUES).scalars().all()
            served = work.connection.execute(
                select(workers.c.queues).where(workers.c.lease_until > func.now())
            ).scalars()
            live = {queue for queues in served for queue in queues}
            for queue in waiting:
                if is_custom(queue) and queue not in live:
                    _move(work.connection, queue, now)
        with self._database.begin() as work:
            unpark(work.connection, now=now)

    def _top_up(self) -> None:
        """Permits that are missing: as many as there are ready steps and free slots, less those that wait already."""
        with self._database.begin() as work:
            wanted = work.connection.execute(_WANTED).all()
        for queue, count in wanted:
            waiting = self._dispatcher.waiting(queue)
            if waiting is None:
                return
            if count > waiting:
                self._dispatcher.send(queue, count - waiting, refill=True)


def _move(connection: Connection, queue: str, now: datetime) -> None:
    """Give the steps of `queue` to `agent.custom`; a turn counts within its queue, so they stand in line again."""
    # Never waiting for a row: whoever holds one has its task, and may wait for another of these.
    theirs = select(steps.c.id).where(steps.c.queue == queue, steps.c.state.in_([StepState.READY, StepState.BLOCKED]))
    moved = connection.execute(
        update(steps)
        .where(steps.c.id.in_(theirs.with_for_update(skip_locked=True)))
        .values(queue=CUSTOM, turn=None, not_before=func.coalesce(steps.c.not_before, now))
    )
    log.warning("queue_without_pool", queue=queue, moved=moved.rowcount)


_JUST_STARTED = text("SELECT pg_postmaster_start_time() + CAST(:lease AS interval) > now()")

# By the database's clock (ix_steps_running).
_LOST = text(
    """
    SELECT id, attempt FROM steps
    WHERE state = 'running'
      AND NOT EXISTS (SELECT FROM workers WHERE workers.id = steps.worker_id AND lease_until > now())
    LIMIT :limit
    """
)

# Calls whose worker died, whose step went on without it, or that it should have ended by now (ix_model_calls_reserved).
# Workers of older versions name themselves in the step alone.
_ABANDONED = text(
    """
    SELECT calls.id FROM model_calls calls
    LEFT JOIN steps ON steps.id = calls.step_id AND steps.attempt = calls.attempt
        AND steps.worker_id = coalesce(calls.worker_id, steps.worker_id)
    LEFT JOIN workers ON workers.id = coalesce(calls.worker_id, steps.worker_id) AND lease_until > now()
    WHERE calls.state = 'reserved'
      AND (workers.id IS NULL
           OR calls.step_id IS NOT NULL AND (steps.id IS NULL OR steps.finished_at < :step_ended)
           OR calls.step_id IS NULL AND calls.created_at < :generation_began)
    LIMIT :limit
    """
)

# ix_tasks_paused; the budgets by their primary key.
_AFFORDABLE = text(
    f"""
    SELECT tasks.id, networks.timeout_seconds FROM tasks JOIN networks ON networks.id = tasks.network_id
    WHERE tasks.status = 'paused' AND needs_usd IS NOT NULL AND networks.deleted_at IS NULL
      AND NOT EXISTS (
          SELECT FROM budgets
          WHERE budgets.id = ANY({accounts.TASK_SUBJECTS})
            AND (NOT counted OR {accounts.SPENT} + needs_usd > limit_usd))
    ORDER BY tasks.id LIMIT :limit
    """  # noqa: S608  # built from constants of ours
)

# A queue's free slots are those of the live workers that serve it, less what these have in hand.
_WANTED = text(
    f"""
    {HOP}, free AS (
        SELECT unnest(workers.queues) AS queue,
               workers.slots - (SELECT count(*) FROM steps WHERE worker_id = workers.id AND state = 'running') AS slots
        FROM workers WHERE lease_until > now()
    ), serving AS (
        SELECT queue, sum(greatest(slots, 0)) AS slots FROM free GROUP BY queue
    )
    SELECT hop.queue,
           (SELECT count(*) FROM (SELECT 1 FROM steps WHERE queue = hop.queue AND state = 'ready' AND turn IS NOT NULL
                                  ORDER BY turn LIMIT serving.slots) ready)
    FROM hop JOIN serving ON serving.queue = hop.queue
    """  # noqa: S608  # built from constants only
)
