"""What must hold after any faults, read from the database and from the sandbox's log of calls."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from tests.sandbox import Sandbox
from tests.system import Up


@dataclass(frozen=True)
class Evidence:
    """Everything that a system did: `calls` as the provider saw them, the rest as it was written down."""

    calls: Sequence[dict[str, Any]]
    ledger: dict[str, Row[Any]]
    tasks: Sequence[Row[Any]]
    steps: Sequence[Row[Any]]
    events: Sequence[Row[Any]]


def collect(up: Up, sandbox: Sandbox) -> Evidence:
    """Read it all; only meaningful once nothing runs any more."""
    return Evidence(
        calls=sandbox.calls(),
        ledger={row.id: row for row in up.rows("SELECT * FROM model_calls")},
        tasks=up.rows("SELECT * FROM tasks"),
        steps=up.rows("SELECT * FROM steps"),
        events=up.rows("SELECT * FROM events ORDER BY task_id, sequence"),
    )


def open_calls(up: Up) -> set[str]:
    """The calls that have been begun, as far as the ledger knows, and not ended: what dies with a worker now."""
    return {row.id for row in up.rows("SELECT id FROM model_calls WHERE state = 'reserved'")}


def assert_nothing_was_lost(evidence: Evidence) -> None:
    """Every task that was stored has completed, and every step of it that was begun has ended."""
    assert {task.status for task in evidence.tasks} == {"completed"}
    assert {step.state for step in evidence.steps} == {"succeeded"}


def assert_the_books_are_right(evidence: Evidence) -> None:
    """Each call that a provider saw is one ledger row, and none is left open."""
    seen = Counter(call["call"] for call in evidence.calls)
    assert set(seen) <= set(evidence.ledger), "a call that nobody accounts for"
    assert set(seen.values()) == {1}, "two calls under one number"
    assert not [row.id for row in evidence.ledger.values() if row.state == "reserved"], "a reservation left open"
    for call_id in set(evidence.ledger) - set(seen):
        assert evidence.ledger[call_id].error_code == "worker_lost", "a call that was never made is charged"


def assert_no_success_was_repeated(evidence: Evidence, cut: Collection[str]) -> None:
    """A step that succeeded has one settled call, its last; others only where a worker died with them (`cut`)."""
    by_step: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in evidence.ledger.values():
        by_step[row.step_id].append(row)
    for step in evidence.steps:
        settled = [row for row in by_step[step.id] if row.state == "settled"]
        assert [row.attempt for row in settled] == [step.attempt]
        repeated = [row for row in by_step[step.id] if row.id not in {settled[0].id, *cut}]
        assert not repeated, f"repeated, though no fault had cut them off: {repeated}"
        assert all(row.created_at < step.finished_at for row in by_step[step.id]), "a finished step ran again"
    assert len(evidence.calls) - len(evidence.steps) <= len(cut)


def assert_events_are_whole(evidence: Evidence) -> None:
    """Numbers without a gap, each step completed once, and `complete` at the end of every task."""
    by_task: dict[str, list[Row[Any]]] = defaultdict(list)
    for event in evidence.events:
        by_task[event.task_id].append(event)
    for events in by_task.values():
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.type for event in events].count("complete") == 1
        assert events[-1].type == "complete"
    completed = [event.data["step_id"] for event in evidence.events if event.type == "step_completed"]
    assert sorted(completed) == sorted(step.id for step in evidence.steps)
    started = Counter(
        (event.data["step_id"], event.data["attempt"]) for event in evidence.events if event.type == "step_started"
    )
    assert set(started.values()) == {1}
