"""Budgets at work: nothing is opened that could overspend one, and what is used up pauses a task, no more."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Row, select, text

from mesh.costs import ledger
from mesh.costs.budgets import Budgets, Kind, count
from mesh.costs.ledger import Opening, Spender
from mesh.db.tables import budgets, tasks
from mesh.errors import BudgetBusyError, BudgetExceededError, StepLostError
from mesh.ids import new_id
from mesh.models.calls import ModelCall
from mesh.security.principal import Role
from mesh.tasks.claims import Claim
from mesh.tasks.execution import Execution
from mesh.tasks.journal import StepJournal
from mesh.tasks.sweep import Sweep
from mesh.testing import FakeModels
from tests.builders import COST, MODELS, NOW, agent_reply, decision, principal, reply_of, subtask
from tests.integration.tasks.core import ANN, WORKER, Core, until
from tests.integration.tasks.test_execution import execution_of, texts

ADMIN = principal("root", Role.ADMIN)
MODEL = MODELS.resolve("gpt-4o")
NOTHING = Decimal(0)
WORST = MODEL.worst_case_usd(prompt_bytes=10, max_tokens=1000)


def call() -> ModelCall:
    """A call that takes `WORST` at worst."""
    return ModelCall(new_id("call"), None, MODEL, [{"role": "user", "content": "0123456789"}], None, 1000, 0, None, 30)


def spender(core: Core, claim: Claim) -> Spender:
    task = core.task(claim.task_id)
    about = (claim.task_id, claim.step_id, claim.agent_type, claim.attempt)
    return Spender(task.owner, task.key_id, task.network_id, *about, worker_id=WORKER)


def journal(core: Core, claim: Claim) -> StepJournal:
    return StepJournal(
        claim,
        spender(core, claim),
        sandbox=False,
        database=core.database,
        wakeups=core.wakeups,
        clock=core.clock,
    )


def opened(core: Core, claim: Claim) -> ModelCall:
    made = call()
    journal(core, claim).opened(made, after=None, previous=None)
    return made


def sweep(core: Core) -> None:
    Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock).run()


def opened_for_all(core: Core, claim: Claim) -> ModelCall:
    """As `opened`, for a task that need not wait for others."""
    with core.database.begin() as work:
        work.connection.execute(tasks.update().values(admitted=True))
    return opened(core, claim)


def limited(core: Core, usd: Decimal, kind: Kind = Kind.USER, subject_id: str = "ann", **values: Any) -> None:  # noqa: ANN401  # period
    Budgets(core.database, core.clock).put(ADMIN, kind, subject_id, limit_usd=usd, **{"period": "total"} | values)


def counted(core: Core) -> bool:
    """Whether the budget is counted now, as the sweep does it; the server's own work may take a moment."""
    count(core.database, now=core.clock())
    return bool(budget(core).counted)


def budget(core: Core, name: str = "user:ann") -> Row[Any]:
    with core.database.begin() as work:
        return work.connection.execute(select(budgets).where(budgets.c.id == name)).one()


def state(core: Core, name: str = "user:ann") -> tuple[Decimal, Decimal]:
    """What is spent and reserved."""
    row = budget(core, name)
    return row.spent_usd, row.reserved_usd


def claimed(core: Core, **values: Any) -> Claim:  # noqa: ANN401  # a task's
    core.submit(core.network("content"), **values)
    return core.claim()


def test_a_calls_worst_case_is_held_while_it_runs_and_its_cost_booked_at_its_end(core: Core) -> None:
    claim = claimed(core)
    limited(core, Decimal(1))
    made = opened(core, claim)
    assert state(core) == (NOTHING, WORST)
    assert core.calls(claim.task_id)[0].held_by == ["user:ann"]
    core.orchestrator.finish(claim, reply_of(decision(), made.call_id))
    assert state(core) == (COST, NOTHING)


def test_every_budget_above_a_call_holds_it(core: Core) -> None:
    claim = claimed(core, budget_usd=Decimal(1))
    network_id = core.task(claim.task_id).network_id
    limited(core, Decimal(1), Kind.NETWORK, network_id)
    limited(core, Decimal(1))
    opened(core, claim)
    names = ["user:ann", f"network:{network_id}", f"task:{claim.task_id}"]
    assert [state(core, name) for name in names] == [(NOTHING, WORST)] * 3
    assert sorted(core.calls(claim.task_id)[0].held_by) == sorted(names)


def test_a_call_that_would_pass_one_limit_is_held_by_none(core: Core) -> None:
    claim = claimed(core, budget_usd=WORST / 2)
    limited(core, Decimal(1))
    with pytest.raises(BudgetExceededError):
        opened(core, claim)
    assert state(core) == (NOTHING, NOTHING)
    assert core.calls(claim.task_id) == []


@pytest.mark.parametrize("end", ["refused", "cut off", "cancelled", "worker lost", "useless"])
def test_whatever_becomes_of_a_call_its_reservation_ends_with_it(core: Core, end: str) -> None:
    claim = claimed(core)
    limited(core, Decimal(1))
    made, now = opened(core, claim), core.clock()
    with core.database.begin() as work:
        if end == "refused":
            ledger.close_failed(work.connection, made.call_id, error_code="x", seconds=1, now=now)
        elif end == "worker lost":
            ledger.close_step(work.connection, claim.step_id, error_code="x", now=now)
        else:
            usd = {"cut off": WORST, "cancelled": WORST / 2, "useless": COST}[end]
            bill = ledger.Bill(1, 1, 0, 0, usd, estimated=end != "useless")
            ledger.close_billed(work.connection, made.call_id, bill, seconds=1, state="failed", error_code="x", now=now)
    charged = {"refused": NOTHING, "worker lost": WORST, "cut off": WORST, "cancelled": WORST / 2, "useless": COST}[end]
    assert state(core) == (charged, NOTHING)


def test_a_late_reply_corrects_what_was_charged_for_want_of_knowledge(core: Core) -> None:
    claim = claimed(core)
    limited(core, Decimal(1))
    made = opened(core, claim)
    with core.database.begin() as work:
        ledger.close_step(work.connection, claim.step_id, error_code="worker_lost", now=core.clock())
    assert state(core) == (WORST, NOTHING)
    core.orchestrator.finish(claim, reply_of(decision(), made.call_id))
    assert state(core) == (COST, NOTHING)
    core.orchestrator.finish(claim, reply_of(decision(), made.call_id))
    assert state(core) == (COST, NOTHING), "settled once"


def test_64_calls_at_once_never_reserve_more_than_the_limit(core: Core) -> None:
    """Nor does any instant between: a watcher reads all the while."""
    limited(core, 10 * WORST)
    claims = [claimed(core) for _ in range(64)]
    with core.database.begin() as work:  # admission is another promise
        work.connection.execute(tasks.update().values(admitted=True))
    done, seen = Event(), []

    def watch() -> None:
        while not done.is_set():
            spent, reserved = state(core)
            seen.append(spent + reserved)

    def try_open(claim: Claim) -> bool:
        try:
            made = opened(core, claim)
        except BudgetBusyError:
            return False
        core.orchestrator.finish(claim, reply_of(decision(), made.call_id))
        return True

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(watch)
        made = sum(pool.map(try_open, claims))
        done.set()
        watching.result()
    assert max(seen) <= 10 * WORST
    assert made >= 10
    assert state(core) == (made * COST, NOTHING)


def test_a_call_whose_opening_was_repeated_is_held_once(core: Core) -> None:
    """The commit's answer was lost: the same write runs again."""
    claim = claimed(core)
    limited(core, Decimal(1))
    made = call()
    for _ in range(2):
        journal(core, claim).opened(made, after=None, previous=None)
    assert state(core) == (NOTHING, WORST)


def test_under_a_budget_too_a_step_that_was_lost_asks_nobody(core: Core) -> None:
    claim = claimed(core)
    limited(core, Decimal(1))
    core.tasks.cancel(ANN, core.task(claim.task_id).network_id, claim.task_id)
    with pytest.raises(StepLostError):
        opened(core, claim)
    assert state(core) == (NOTHING, NOTHING)


def test_a_budget_that_is_set_late_counts_what_was_spent_and_what_is_under_way(core: Core) -> None:
    before, under_way = claimed(core), claimed(core)
    core.finish(before, decision())
    made = opened(core, under_way)
    limited(core, Decimal(1))
    assert state(core) == (COST, WORST)
    core.orchestrator.finish(under_way, reply_of(decision(), made.call_id))
    assert state(core) == (2 * COST, NOTHING)


def test_a_budget_that_is_not_counted_yet_is_counted_by_the_sweep(core: Core) -> None:
    """A write that began before the budget was set may not know of it: it is waited for."""
    claim = claimed(core)
    with core.database.begin() as older:
        older.connection.execute(text("UPDATE networks SET name = name"))
        limited(core, Decimal(1))
        assert not budget(core).counted
        with pytest.raises(BudgetBusyError):
            opened(core, claim)
    until(lambda: counted(core))
    opened(core, claim)
    assert state(core) == (NOTHING, WORST)


def test_a_new_day_is_a_new_budget(core: Core) -> None:
    claim = claimed(core)
    limited(core, WORST + COST / 2, period="day")
    core.orchestrator.finish(claim, reply_of(decision(), opened(core, claim).call_id))
    late = claimed(core)
    with pytest.raises(BudgetExceededError):
        opened(core, late)
    view = Budgets(core.database, core.clock).get(ANN, Kind.USER, "ann")
    assert (view.spent_usd, view.resets_at) == (COST, datetime(2026, 1, 2, tzinfo=UTC))
    core.clock.advance(24 * 3600)
    assert Budgets(core.database, core.clock).get(ANN, Kind.USER, "ann").spent_usd == 0
    opened(core, late)
    assert state(core) == (NOTHING, WORST)


def spending(core: Core, usd: str) -> tuple[str, Execution]:
    """A task with a budget of 0.16 US dollars, and a worker whose calls cost `usd` each."""
    task_id = core.submit(core.network("content"), budget_usd=Decimal("0.16")).task_id
    models = FakeModels(texts(decision(subtask("a")), agent_reply("A"), decision()), cost_usd=Decimal(usd))
    execution = execution_of(core, models)
    execution.serve("agent.coordinator", refill=False)
    return task_id, execution


def test_a_task_whose_budget_is_used_up_pauses_and_goes_on_when_the_limit_is_raised(core: Core) -> None:
    """What it has finished stays, and is not paid again."""
    task_id, execution = spending(core, "0.1599")
    assert core.task(task_id).status == "paused"
    assert core.states(task_id) == {"decision_1": "succeeded", "a": "blocked"}
    assert core.event_types(task_id)[-1] == "paused"
    sweep(core)
    assert core.task(task_id).status == "paused", "nothing has changed"
    limited(core, Decimal(1), Kind.TASK, task_id)
    sweep(core)
    execution.serve("agent.content", refill=False)
    assert core.task(task_id).status == "completed"
    assert [row.attempt for row in core.steps(task_id)] == [1, 2, 1]
    assert state(core, f"task:{task_id}") == (3 * Decimal("0.1599"), NOTHING)
    assert [row.data["run"] for row in core.events(task_id) if row.type == "started"] == [1, 2]


def test_what_is_left_of_a_budget_is_spent_on_cheaper_models_before_a_task_pauses(core: Core) -> None:
    task_id, _ = spending(core, "0.12")
    assert [row.model for row in core.calls(task_id)] == ["gpt-4o", "gpt-4o-mini"]
    assert core.task(task_id).status == "paused"


def test_a_model_without_a_price_is_not_asked_under_a_budget(core: Core) -> None:
    claim = claimed(core)
    limited(core, Decimal(1))
    free = replace(call(), model=replace(MODEL, facts={}))
    with pytest.raises(BudgetBusyError, match="known price"):
        journal(core, claim).opened(free, after=None, previous=None)


def test_a_paused_task_keeps_what_runs_and_begins_nothing(core: Core) -> None:
    task_id = core.submit(core.network("content")).task_id
    core.finish(core.claim(), decision(subtask("a"), subtask("b"), subtask("c", "content", "a")))
    first, second = core.claim("content"), core.claim("content")
    core.orchestrator.pause(first, reason="used up", needs_usd=Decimal("0.05"))
    assert core.states(task_id) == {"decision_1": "succeeded", "a": "blocked", "b": "running", "c": "blocked"}
    core.finish(second, agent_reply("B"))
    assert core.states(task_id)["b"] == "succeeded"
    assert core.event_types(task_id)[-2:] == ["paused", "step_completed"]
    assert core.try_claim("agent.content") is None
    sweep(core)  # no budget stands in the way
    assert core.task(task_id).status == "processing"
    assert core.states(task_id)["a"] == "ready"
    core.finish(core.claim("content"), agent_reply("A"))
    core.finish(core.claim("content"), agent_reply("C"))
    core.finish(core.claim(), decision())
    assert core.task(task_id).status == "completed"
    assert [row.attempt for row in core.steps(task_id)] == [1, 2, 1, 1, 1]


def test_a_failed_attempt_waits_while_its_task_is_paused(core: Core) -> None:
    task_id = core.submit(core.network("content")).task_id
    core.finish(core.claim(), decision(subtask("a"), subtask("b")))
    first, second = core.claim("content"), core.claim("content")
    core.orchestrator.pause(first, reason="used up", needs_usd=Decimal("0.05"))
    core.fail(second)
    assert core.states(task_id) == {"decision_1": "succeeded", "a": "blocked", "b": "blocked"}
    core.clock.advance(60)
    core.unpark()
    assert core.try_claim("agent.content") is None


def test_a_paused_tasks_step_whose_worker_died_waits_with_it(core: Core) -> None:
    task_id = core.submit(core.network("content")).task_id
    core.finish(core.claim(), decision(subtask("a"), subtask("b")))
    first, second = core.claim("content"), core.claim("content")
    core.orchestrator.pause(first, reason="used up", needs_usd=Decimal("0.05"))
    Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock).give_back(
        [(second.step_id, second.attempt)]
    )
    assert core.states(task_id) == {"decision_1": "succeeded", "a": "blocked", "b": "blocked"}


def test_a_step_that_waits_has_not_failed(core: Core) -> None:
    claim = claimed(core)
    core.orchestrator.put_back(claim, seconds=2)
    assert core.task(claim.task_id).started_at == NOW
    core.clock.advance(1.9)
    core.unpark()
    assert core.try_claim("agent.coordinator") is None
    core.clock.advance(0.1)
    core.unpark()
    assert core.claim().failures == 0
    assert core.event_types(claim.task_id) == ["started"]


def test_tasks_that_have_begun_are_finished_before_others_begin(core: Core) -> None:
    """The budget would pay for both first calls, but perhaps not for both tasks."""
    limited(core, 5 * WORST)
    first, second = claimed(core), claimed(core)
    made = opened(core, first)
    with pytest.raises(BudgetBusyError, match="kept for the 1 tasks"):
        opened(core, second)
    core.orchestrator.finish(first, reply_of(decision(), made.call_id))
    opened(core, second)


def test_a_task_that_waits_for_others_to_be_finished_has_all_of_its_time_left(core: Core) -> None:
    deadline = core.clock() + timedelta(hours=1)
    claim = claimed(core, deadline=deadline)
    for _ in range(11):
        core.clock.advance(299)
        core.orchestrator.put_back(claim, seconds=0, not_begun=True)
        core.unpark()
        sweep(core)
        claim = core.claim()
    task = core.task(claim.task_id)
    assert (task.status, task.started_at) == ("processing", core.clock())
    assert task.expires_at == core.clock() + timedelta(seconds=300) < deadline


def test_a_write_that_is_older_than_the_period_takes_nothing_back(core: Core) -> None:
    """It had to be repeated, or its clock is behind: the day that has begun stays begun."""
    early, late = claimed(core), claimed(core)
    limited(core, Decimal(1), period="day")
    made = opened(core, early)
    core.clock.advance(24 * 3600 - 1)
    yesterday = core.clock()
    core.clock.advance(60)
    core.orchestrator.finish(late, reply_of(decision(), opened_for_all(core, late).call_id))
    with core.database.begin() as work:
        bill = ledger.Bill(1, 1, 0, 0, COST)
        ledger.close_billed(
            work.connection, made.call_id, bill, seconds=1, state="settled", error_code=None, now=yesterday
        )
    assert state(core) == (2 * COST, NOTHING)


def test_a_correction_takes_back_only_what_this_period_was_charged(core: Core) -> None:
    claim = claimed(core)
    limited(core, Decimal(1), period="day")
    made = opened(core, claim)
    with core.database.begin() as work:
        ledger.close_step(work.connection, claim.step_id, error_code="worker_lost", now=core.clock())
    assert state(core) == (WORST, NOTHING)
    core.clock.advance(24 * 3600)
    core.orchestrator.finish(claim, reply_of(decision(), made.call_id))
    assert state(core) == (COST, NOTHING)


def test_a_late_attempt_pauses_nothing(core: Core) -> None:
    late = claimed(core)
    Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock).give_back(
        [(late.step_id, late.attempt)]
    )
    core.claim()
    core.orchestrator.pause(late, reason="used up", needs_usd=Decimal(1))
    assert core.task(late.task_id).status == "processing"
    assert core.states(late.task_id) == {"decision_1": "running"}


def test_a_finish_under_way_when_a_budget_is_set_is_counted(core: Core) -> None:
    """Its statement ran before and its commit comes after: the count waits for it."""
    claim = claimed(core)
    made = opened(core, claim)
    with core.database.begin() as finishing:
        bill = ledger.Bill(1, 1, 0, 0, COST)
        ledger.close_billed(
            finishing.connection, made.call_id, bill, seconds=1, state="settled", error_code=None, now=core.clock()
        )
        limited(core, Decimal(1))
        assert not budget(core).counted
    until(lambda: counted(core))
    assert state(core) == (COST, NOTHING)


def test_a_call_is_not_opened_past_a_budget_that_was_set_meanwhile(core: Core) -> None:
    """Between looking for budgets and opening the call; the row itself asks again."""
    claim = claimed(core)
    limited(core, Decimal(1))
    opening = Opening(new_id("call"), None, MODEL.name, MODEL.provider, WORST, unpriced=False, sandbox=False)
    values = ledger.opening_values(spender(core, claim), opening)
    with core.database.begin() as work:
        opened_as = text(ledger.opening("(SELECT 1) once"))
        assert work.connection.execute(opened_as, {**values, "now": core.clock()}).first() is None
        held = {**values, "held_by": ["user:ann"], "now": core.clock()}
        assert work.connection.execute(opened_as, held).first() is not None


def test_what_finished_tasks_cost_tells_how_many_may_run(core: Core) -> None:
    limited(core, 5 * WORST)
    one = claimed(core)
    core.orchestrator.finish(one, reply_of(decision(), opened(core, one).call_id))
    network_id = core.task(one.task_id).network_id
    for _ in range(4):
        core.submit(network_id)
    for _ in range(4):
        opened(core, core.claim())
    assert state(core) == (COST, 4 * WORST)
