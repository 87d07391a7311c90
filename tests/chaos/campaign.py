"""A campaign: faults struck one after the other at a system at work, and how long each took to heal."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import faults, moments
from tests.chaos.evidence import (
    Evidence,
    assert_events_are_whole,
    assert_no_success_was_repeated,
    assert_nothing_was_lost,
    assert_the_books_are_right,
    collect,
    open_calls,
)
from tests.chaos.faults import Stage
from tests.sandbox import start_sandbox
from tests.system import eventually, mesh_up

RECOVERY_SECONDS = 25.0

# A call takes 0.8 to 1.4 s, a task three of them in a row: there is always something under way to be cut off.
LATENCY_SECONDS = 0.8
JITTER_SECONDS = 0.6

FAULTS: Mapping[str, Callable[[Stage], None]] = {
    fault.__name__: fault
    for fault in (
        faults.worker,
        faults.api,
        faults.one_api_process,
        faults.beat,
        faults.control,
        faults.valkey,
        faults.flush,
        faults.postmaster,
        faults.backend,
        moments.api_between_commit_and_publish,
        moments.worker_between_claim_and_call,
        moments.worker_between_reply_and_commit,
        moments.worker_between_commit_and_publish,
    )
}


@dataclass
class Struck:
    """A fault, when it struck (Unix time), the tasks that were under way then, and when a task was accepted again."""

    name: str
    at: float
    affected: frozenset[str]
    accepted_seconds: float = 0.0


@dataclass(frozen=True)
class Recovery:
    """Seconds from a fault until any step ended, until every affected task went on, until the API took a task."""

    name: str
    next_step: float
    all_on: float
    accepted: float
    affected: int

    def __str__(self) -> str:
        return (
            f"{self.name:32} next step {self.next_step:5.1f} s, all {self.affected:2} affected go on {self.all_on:5.1f}"
            f" s, next task accepted {self.accepted:4.1f} s"
        )


@dataclass
class Campaign:
    """Strikes, keeps count of what it cut off, and checks in the end."""

    stage: Stage
    struck: list[Struck] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)

    def wave(self, tasks: int) -> None:
        """Submit `tasks`, and return when models are at work for them."""
        for _ in range(tasks):
            self.stage.up.client.submit(self.stage.network_id)
        if self.struck and not self.struck[-1].accepted_seconds:
            self.struck[-1].accepted_seconds = time.time() - self.struck[-1].at
        begun = time.time()
        eventually(lambda: self._works_since(begun), RECOVERY_SECONDS, every=0.05)

    def strike(self, name: str) -> None:
        """Strike once, and note what was under way."""
        FAULTS[name](self.stage)
        struck_at = time.time()
        if name.startswith("worker"):
            self.cut |= open_calls(self.stage.up)
        rows = self.stage.up.rows("SELECT id FROM tasks WHERE status = 'processing'")
        self.struck.append(Struck(name, struck_at, frozenset(row.id for row in rows)))

    def healed(self) -> None:
        """Return when every task that a fault found under way has gone on since."""
        query = """
            SELECT 1 FROM tasks WHERE id = ANY(:ids) AND status = 'processing'
            AND NOT EXISTS (SELECT 1 FROM steps WHERE task_id = tasks.id AND finished_at > to_timestamp(:at))
        """
        for fault in self.struck:
            values = {"ids": list(fault.affected), "at": fault.at}
            eventually(lambda values=values: not self.stage.up.rows(query, **values), RECOVERY_SECONDS, every=0.2)  # type: ignore[misc]  # a default argument of a lambda

    def finish(self, *, seconds: float = 2 * RECOVERY_SECONDS) -> list[Recovery]:
        """Wait until all tasks have ended, check everything that must hold, and answer how long each fault took."""
        self.wave(1)
        query = "SELECT 1 FROM tasks WHERE status IN ('pending', 'processing') LIMIT 1"
        eventually(lambda: not self.stage.up.rows(query), seconds)
        evidence = collect(self.stage.up, self.stage.sandbox)
        assert_nothing_was_lost(evidence)
        assert_the_books_are_right(evidence)
        assert_no_success_was_repeated(evidence, self.cut)
        assert_events_are_whole(evidence)
        return [_recovery(fault, evidence) for fault in self.struck]

    def _works_since(self, instant: float) -> bool:
        return any(call["started_at"] > instant and not call["ended_at"] for call in self.stage.sandbox.calls())


@contextmanager
def campaign(home: Path) -> Iterator[Campaign]:
    """A system of its own to strike at; the sandbox stands outside of it, so that its log survives."""
    with (
        start_sandbox(latency=LATENCY_SECONDS, jitter=JITTER_SECONDS) as sandbox,
        mesh_up(home, sandbox.env, concurrency=16) as up,
    ):
        yield Campaign(Stage(up, sandbox, up.client.network()))


def report(recoveries: Sequence[Recovery]) -> None:
    """Print how long each fault took."""
    sys.stdout.write("\n" + "\n".join(map(str, recoveries)) + "\n")


def _recovery(fault: Struck, evidence: Evidence) -> Recovery:
    ended = sorted(
        (step.finished_at.timestamp() - fault.at, step.task_id)
        for step in evidence.steps
        if step.finished_at.timestamp() > fault.at
    )
    # A task may have been about to end when the fault struck: its last step ended by the clock before.
    first = {task_id: after for after, task_id in reversed(ended) if task_id in fault.affected}
    return Recovery(
        fault.name,
        next_step=ended[0][0],
        all_on=max(first.values(), default=0.0),
        accepted=fault.accepted_seconds,
        affected=len(fault.affected),
    )
