"""The orchestrator: what a step's end means for its task.

execution -> here -> graph.  One transaction, fenced by the attempt: reply, ledger, memories, events, steps that became
ready, the next decision or the result.  A reply whose step is lost is paid for and changes nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from mesh.agents.prompts import memory_labels
from mesh.agents.schemas import Decision, MemoryNote
from mesh.agents.schemas import Reply as AgentReply
from mesh.clock import Clock
from mesh.costs import ledger
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.events import log, types
from mesh.ids import new_id
from mesh.memory.sameness import said
from mesh.memory.views import NewMemory, Source
from mesh.memory.writing import remembering, remembering_values
from mesh.models.books import bill_of
from mesh.models.calls import Reply
from mesh.tasks import graph
from mesh.tasks.claims import Claim
from mesh.tasks.graph import Changes, Surroundings
from mesh.tasks.plan import plan
from mesh.tasks.states import StepKind, TaskStatus
from mesh.tasks.wakeups import Wakeups

# A failed attempt is repeated, after a pause that doubles; then the coordinator is told.
MOST_FAILURES = 3
FIRST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt brought no reply; `retry`: another one may help, not sooner than `after_seconds`."""

    code: str
    detail: str
    retry: bool
    after_seconds: float | None = None


class Orchestrator:
    """Ends attempts.  Each method answers the queues that got work, for the caller to wake or to serve itself."""

    def __init__(self, database: Database, wakeups: Wakeups, clock: Clock) -> None:
        self._database = database
        self._wakeups = wakeups
        self._clock = clock

    def finish(self, claim: Claim, reply: Reply[Any], *, recalled: Sequence[str] = ()) -> Sequence[str]:
        """Store the reply of `claim` and what follows from it; `recalled` are the memories of its prompt, in order."""
        return self._database.persist(lambda work: self._finish(work, claim, reply, recalled))

    def fail(self, claim: Claim, failure: Failure) -> Sequence[str]:
        """Note that the attempt failed: the step is tried again later, or its task goes on without it."""
        return self._database.persist(lambda work: self._fail(work, claim, failure))

    def put_back(self, claim: Claim, *, seconds: float, not_begun: bool = False) -> None:
        """Let the step wait so long for a budget or a rate limit, without a slot; the attempt has not failed.

        The time of a task that other tasks keep from beginning has not begun either.
        """

        def park(work: UnitOfWork) -> None:
            now = self._clock()
            task = graph.lock(work.connection, claim.task_id)
            if task is not None and _park(work.connection, claim, task, now + timedelta(seconds=seconds)) and not_begun:
                work.connection.execute(_NOT_BEGUN, {"task_id": claim.task_id, "now": now})

        self._database.persist(park)

    def pause(self, claim: Claim, *, reason: str, needs_usd: Decimal) -> None:
        """Pause the task of `claim`, whose next call needs so many US dollars more than a budget has left."""

        def stop(work: UnitOfWork) -> None:
            task = graph.lock(work.connection, claim.task_id)
            if task is not None and task.status in {TaskStatus.PROCESSING, TaskStatus.PAUSED}:
                changes = graph.pause(
                    work.connection, task, claim.step_id, claim.attempt, reason=reason, needs_usd=needs_usd
                )
                graph.publish(work, self._wakeups, task, changes, now=self._clock())

        self._database.persist(stop)

    def expire(self, task_id: str) -> None:
        """End a task whose time is over; one that has ended meanwhile stays as it is."""
        self._database.persist(lambda work: self.expire_within(work, task_id))

    def expire_within(self, work: UnitOfWork, task_id: str) -> None:
        """As `expire`, within the caller's transaction."""
        now = self._clock()
        task = graph.lock(work.connection, task_id)
        if task is None or task.status not in {TaskStatus.PROCESSING, TaskStatus.PENDING, TaskStatus.PAUSED}:
            return
        error = _expiry(task, now)
        if error is not None:
            changes = graph.end(work.connection, task, TaskStatus.FAILED, now=now, error=error)
            graph.publish(work, self._wakeups, task, changes, now=now)

    def _finish(self, work: UnitOfWork, claim: Claim, reply: Reply[Any], recalled: Sequence[str]) -> Sequence[str]:
        now = self._clock()
        notes = _notes(reply.value.memories)
        batch = log.Batch(claim.task_id, _happened(claim, reply, notes), at=now)
        used = _used(reply.value, recalled)
        values = {**_reply_values(claim, reply, notes, now), **batch.values(), "used": used}
        _LOCK.send(work.connection, values)
        task = _STORE.execute(work.connection, values).first()
        if task is None:
            return []
        around = Surroundings.of(task)
        more = (
            self._decided(work.connection, task, around, reply.value, now)
            if claim.kind == StepKind.DECISION
            else _go_on(work.connection, task, around, now)
        )
        stored = batch.stored(task.network_id, task.before)
        for event in stored:
            if event.data.get("memory_id") in (task.standing or ()):
                event.data["memory_id"] = task.standing[event.data["memory_id"]]
        self._wakeups.events(work, task.id, stored)
        graph.publish(work, self._wakeups, task, more, now=now)
        return more.queues

    def _decided(
        self, connection: Connection, task: Row[Any], around: Surroundings, decision: Decision, now: datetime
    ) -> Changes:
        if decision.task_complete:
            result = {
                "content": decision.content,
                "explanation": decision.explanation,
                "confidence": decision.confidence,
            }
            return graph.end(connection, task, TaskStatus.COMPLETED, now=now, result=result)
        ordered, more = graph.add_steps(connection, task, around.members, plan(decision.subtasks), now=now)
        listed = [
            {
                "step_id": row["id"],
                "key": row["key"],
                "agent": row["agent_name"],
                "agent_id": row["agent_id"],
                "description": row["description"],
                "depends_on": row["depends_on"],
            }
            for row in ordered
        ]
        return Changes([types.Plan(task.iterations, listed), *more.events], more.queues)

    def _fail(self, work: UnitOfWork, claim: Claim, failure: Failure) -> Sequence[str]:
        now = self._clock()
        task = graph.lock(work.connection, claim.task_id)
        will_retry = failure.retry and claim.failures + 1 < MOST_FAILURES
        if task is None or not _fail_step(work.connection, claim, task, failure, will_retry=will_retry, now=now):
            return []
        changes = Changes(
            [
                types.StepFailed(
                    claim.step_id, claim.agent_name, claim.agent_id, failure.code, failure.detail, will_retry
                )
            ]
        )
        if not will_retry:
            more = step_failed_for_good(work.connection, task, claim.kind, failure, now=now)
            changes.events += more.events
            changes.queues += more.queues
        graph.publish(work, self._wakeups, task, changes, now=now)
        return changes.queues


def step_failed_for_good(
    connection: Connection, task: Row[Any], kind: str, failure: Failure, *, now: datetime
) -> Changes:
    """A specialist's failure is the coordinator's to deal with; the coordinator's own is the task's."""
    if kind == StepKind.DECISION:
        error = {"code": failure.code, "detail": failure.detail}
        return graph.end(connection, task, TaskStatus.FAILED, now=now, error=error)
    return _go_on(connection, task, graph.look_around(connection, task), now)


def _go_on(connection: Connection, task: Row[Any], around: Surroundings, now: datetime) -> Changes:
    """What follows in the round; of a paused task nothing does until it is resumed."""
    if task.status == TaskStatus.PAUSED:
        return Changes()
    return graph.continue_run(connection, task, around, now=now)


# A statement of its own, so that what comes next sees all that those did whom it waited for.
_LOCK = Prepared("SELECT FROM tasks WHERE id = :task_id FOR NO KEY UPDATE")

# All that a reply changes for sure, in one round trip: while the task's row is locked, its other steps wait.  The
# ledger is settled whatever became of the step, but after the task's row is locked, as everywhere.  An event of what
# the network knew already names the item that stands for it.
_AROUND = graph.surroundings("numbered", state="CASE id WHEN :step_id THEN 'succeeded' ELSE state END")
_STORE = Prepared(
    f"""
    WITH alive AS (
        SELECT id, network_id FROM tasks WHERE id = :task_id
    ), {ledger.ending("id = :call_id", ledger.BILLED)}
    , mine AS (
        UPDATE steps SET state = 'succeeded', output = :output, confidence = :confidence, model = :model,
            memories_used = :used, error = NULL, finished_at = :now
        WHERE id = :step_id AND attempt = :attempt AND state = 'running' AND EXISTS (SELECT FROM alive)
        RETURNING id AS step_id
    ), {remembering("mine, alive", merging=True)}, told AS (
        SELECT jsonb_agg(
            CASE WHEN stands IS NULL THEN event ELSE jsonb_set(event, '{{data,memory_id}}', to_jsonb(stands)) END
            ORDER BY place) AS events
        FROM jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS given_events (event, place)
        LEFT JOIN same ON same.id = event -> 'data' ->> 'memory_id'
    ), {log.appending("EXISTS (SELECT FROM mine)", events="(SELECT events FROM told)")}
    SELECT numbered.*, (SELECT jsonb_object_agg(id, stands) FROM same) AS standing, {_AROUND} FROM numbered
    """,  # noqa: S608  # built from constants of ours
    prompt_tokens="bigint",
    completion_tokens="bigint",
    cached_tokens="bigint",
    reasoning_tokens="bigint",
    cost_usd="numeric",
    estimated="boolean",
    seconds="float8",
    confidence="float8",
    attempt="int",
    now="timestamptz",
    count="int",
    events="jsonb",
    memories="jsonb",
    used="text[]",
)

_FAIL = text(
    """
    UPDATE steps SET state = 'failed', failures = failures + 1, error = CAST(:error AS jsonb), finished_at = :now
    WHERE id = :step_id AND attempt = :attempt AND state = 'running'
    """
)

# In a paused task nothing is ready.
_PARK = text(
    """
    UPDATE steps SET state = CASE WHEN :paused THEN 'blocked' ELSE 'ready' END, turn = NULL,
        not_before = CASE WHEN NOT :paused THEN CAST(:not_before AS timestamptz) END, worker_id = NULL,
        failures = failures + :failed, error = coalesce(CAST(:error AS jsonb), error)
    WHERE id = :step_id AND attempt = :attempt AND state = 'running'
    """
)


# Its time-out begins anew; its deadline stays.
_NOT_BEGUN = text(
    """
    UPDATE tasks SET started_at = :now, expires_at = least(deadline, expires_at + (:now - started_at))
    WHERE id = :task_id AND status = 'processing'
    """
)


def _notes(given: Sequence[MemoryNote]) -> dict[str, NewMemory]:
    """What an agent wants remembered, by the ids that it gets; what it says twice, it says once."""
    best: dict[tuple[str, str], MemoryNote] = {}
    for note in sorted(given, key=lambda note: note.confidence):
        best[note.type, said(note.content)] = note
    return {
        new_id("memory"): NewMemory(note.content, note.type, note.confidence)
        for note in given
        if note is best[note.type, said(note.content)]
    }


def _used(value: Decision | AgentReply, recalled: Sequence[str]) -> list[str]:
    """The memories that the agent says it used; labels that its prompt did not have are nothing."""
    labels = set(value.used_memories)
    named = zip(memory_labels(len(recalled)), recalled, strict=True)
    return [memory_id for label, memory_id in named if label in labels]


def _reply_values(claim: Claim, reply: Reply[Any], notes: Mapping[str, NewMemory], now: datetime) -> dict[str, Any]:
    value: Decision | AgentReply = reply.value
    return {
        **ledger.billed_values(reply.call_id, bill_of(reply.raw), seconds=reply.latency_seconds),
        **remembering_values(notes, Source("agent", claim.agent_id, claim.task_id), now=now),
        "step_id": claim.step_id,
        "attempt": claim.attempt,
        "output": value.result if isinstance(value, AgentReply) else (value.content or value.reasoning),
        "confidence": value.confidence,
        "model": reply.model.name,
    }


def _park(
    connection: Connection, claim: Claim, task: Row[Any], not_before: datetime, *, error: str | None = None
) -> bool:
    """Let the step wait until `not_before`; with an `error` because its attempt failed."""
    paused = task.status == TaskStatus.PAUSED
    values = {"not_before": not_before, "paused": paused, "error": error, "failed": 0 if error is None else 1}
    return _write(connection, claim, _PARK, values)


def _fail_step(
    connection: Connection, claim: Claim, task: Row[Any], failure: Failure, *, will_retry: bool, now: datetime
) -> bool:
    error = json.dumps({"code": failure.code, "detail": failure.detail})
    if will_retry:
        pause = max(FIRST_PAUSE_SECONDS * 2**claim.failures, failure.after_seconds or 0)
        return _park(connection, claim, task, now + timedelta(seconds=pause), error=error)
    return _write(connection, claim, _FAIL, {"error": error, "now": now})


def _write(connection: Connection, claim: Claim, statement: TextClause, values: dict[str, Any]) -> bool:
    """Write to the step if it is still this attempt's: a late worker changes nothing."""
    fence = {"step_id": claim.step_id, "attempt": claim.attempt}
    return connection.execute(statement, {**values, **fence}).rowcount == 1


def _happened(claim: Claim, reply: Reply[Any], notes: Mapping[str, NewMemory]) -> list[types.Event]:
    """The step's end, and what its agent wants remembered."""
    value: Decision | AgentReply = reply.value
    usage = reply.raw.usage
    completed = types.StepCompleted(
        step_id=claim.step_id,
        agent=claim.agent_name,
        agent_id=claim.agent_id,
        model=reply.model.name,
        output=value.result if isinstance(value, AgentReply) else value.content,
        confidence=value.confidence,
        usage={"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        cost_usd=float(reply.raw.cost_usd or 0),
        duration_seconds=round(reply.latency_seconds, 3),
    )
    remembered = [
        types.MemoryAdded(memory_id, item.type, item.content, item.confidence, claim.agent_name, claim.agent_id)
        for memory_id, item in notes.items()
    ]
    return [completed, *remembered]


def _expiry(task: Row[Any], now: datetime) -> dict[str, str] | None:
    """Why the task's time is over, if it is."""
    if task.deadline is not None and task.deadline <= now:
        return {"code": "deadline_exceeded", "detail": "The task's deadline has passed."}
    if task.status == TaskStatus.PROCESSING and task.expires_at is not None and task.expires_at <= now:
        return {"code": "timeout", "detail": "The task took longer than its network's timeout_seconds."}
    return None
