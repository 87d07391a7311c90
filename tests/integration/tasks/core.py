"""The core on a real database, with fakes around it: what a worker would do, one move at a time."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine, Row, select, text

from mesh.agents.schemas import Decision, Reply
from mesh.costs import ledger
from mesh.costs.ledger import Opening, Spender
from mesh.db.tables import events, model_calls, steps, tasks
from mesh.db.unit_of_work import Database
from mesh.ids import new_id
from mesh.security.principal import Principal
from mesh.tasks import claims
from mesh.tasks.claims import Claim
from mesh.tasks.orchestrator import Failure, Orchestrator
from mesh.tasks.service import Tasks
from mesh.tasks.states import REOPENED_STEPS, STEP_MOVES, TASK_MOVES, StepState
from mesh.tasks.views import NewTask, TaskView
from mesh.tasks.wakeups import Wakeups
from mesh.testing import FakeClock, FakeDispatcher, FakeLive
from tests.builders import COST, MODELS, add_network, principal, reply_of

T = TypeVar("T")

ANN = principal("ann")
WORKER = "worker_1"


class Core:
    """Parts wired as `mesh.bootstrap` does it; every move of a task or step that the tables forbid breaks the test."""

    def __init__(self, engine: Engine) -> None:
        self.database = Database(engine)
        self.clock = FakeClock()
        self.dispatcher = FakeDispatcher()
        self.live = FakeLive()
        self.wakeups = Wakeups(self.dispatcher, self.live)
        self.tasks = Tasks(self.database, self.wakeups, MODELS, self.clock)
        self.orchestrator = Orchestrator(self.database, self.wakeups, self.clock)
        self._guard_moves()

    def network(self, *types: str, **values: Any) -> str:  # noqa: ANN401  # columns
        with self.database.begin() as work:
            return add_network(work.connection, *types, **values)

    def submit(self, network_id: str, by: Principal = ANN, **values: Any) -> TaskView:  # noqa: ANN401  # fields
        return self.tasks.submit(by, network_id, NewTask("Do it.", **values))

    def try_claim(self, queue: str, worker_id: str = WORKER) -> Claim | None:
        with self.database.begin() as work:
            return claims.claim(work.connection, queue=queue, worker_id=worker_id, now=self.clock())

    def claim(self, agent_type: str = "coordinator", worker_id: str = WORKER) -> Claim:
        claim = self.try_claim(f"agent.{agent_type}", worker_id)
        assert claim is not None, f"nothing to do for {agent_type}"
        return claim

    def open_call(self, claim: Claim) -> str:
        """The ledger row of a call for `claim`, which reserves twice what it will cost."""
        model = MODELS.resolve("gpt-4o")
        opening = Opening(new_id("call"), None, model.name, model.provider, 2 * COST, unpriced=False, sandbox=False)
        network_id = self.task(claim.task_id).network_id
        about = (network_id, claim.task_id, claim.step_id, claim.agent_type, claim.attempt)
        spender = Spender(claim.owner, None, *about, worker_id=WORKER)
        with self.database.begin() as work:
            values = {**ledger.opening_values(spender, opening), "now": self.clock()}
            work.connection.execute(text(ledger.opening("(SELECT 1) once")), values)
        return opening.call_id

    def finish(self, claim: Claim, value: Decision | Reply) -> None:
        """`claim`'s model was asked and said `value`."""
        self.orchestrator.finish(claim, reply_of(value, self.open_call(claim)))

    def fail(self, claim: Claim, *, retry: bool = True, after_seconds: float | None = None) -> None:
        self.orchestrator.fail(claim, Failure("all_models_failed", "None answered.", retry, after_seconds))

    def unpark(self) -> None:
        """As the sweep does: steps whose `not_before` has come get their turn."""
        with self.database.begin() as work:
            claims.unpark(work.connection, now=self.clock())

    def task(self, task_id: str) -> Row[Any]:
        with self.database.begin() as work:
            return work.connection.execute(select(tasks).where(tasks.c.id == task_id)).one()

    def step(self, step_id: str) -> Row[Any]:
        with self.database.begin() as work:
            return work.connection.execute(select(steps).where(steps.c.id == step_id)).one()

    def steps(self, task_id: str) -> list[Row[Any]]:
        """The task's steps, in the order of their making."""
        query = select(steps).where(steps.c.task_id == task_id).order_by(steps.c.iteration, steps.c.id)
        with self.database.begin() as work:
            return list(work.connection.execute(query))

    def states(self, task_id: str) -> dict[str, str]:
        """The state of each step, by its key."""
        return {row.key: row.state for row in self.steps(task_id)}

    def events(self, task_id: str) -> list[Row[Any]]:
        """The task's events; that they are numbered densely from 1 is checked on the way."""
        query = select(events).where(events.c.task_id == task_id).order_by(events.c.sequence)
        with self.database.begin() as work:
            stored = list(work.connection.execute(query))
        assert [row.sequence for row in stored] == list(range(1, len(stored) + 1))
        return stored

    def event_types(self, task_id: str) -> list[str]:
        return [row.type for row in self.events(task_id)]

    def calls(self, task_id: str) -> list[Row[Any]]:
        """The task's rows of the ledger."""
        query = select(model_calls).where(model_calls.c.task_id == task_id).order_by(model_calls.c.id)
        with self.database.begin() as work:
            return list(work.connection.execute(query))

    def snapshot(self) -> list[tuple[Any, ...]]:
        """All that is stored of tasks, steps and events."""
        with self.database.begin() as work:
            return [
                tuple(row)
                for table in (tasks, steps, events)
                for row in work.connection.execute(select(table).order_by(*table.primary_key))
            ]

    def _guard_moves(self) -> None:
        step_moves = {(old, new) for old, moves in STEP_MOVES.items() for new in moves}
        step_moves |= {(old, StepState.BLOCKED) for old in REOPENED_STEPS}
        task_moves = {(old, new) for old, moves in TASK_MOVES.items() for new in moves}
        with self.database.begin() as work:
            for table, column, moves in (("steps", "state", step_moves), ("tasks", "status", task_moves)):
                listed = ",".join(f"('{old}','{new}')" for old, new in sorted(moves))
                work.connection.execute(text(_GUARD.format(table=table, column=column, moves=listed)))


def until(found: Callable[[], T | None], seconds: float = 10) -> T:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return value


_GUARD = """
    CREATE FUNCTION guard_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF old.{column} <> new.{column} AND (old.{column}, new.{column}) NOT IN ({moves}) THEN
            RAISE 'one of {table} moved from % to %', old.{column}, new.{column};
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER guard BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION guard_{table}();
"""
