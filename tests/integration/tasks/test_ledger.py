"""The ledger: what a call is charged follows the best that is known of its end, whoever learns of it first."""

from mesh.costs import ledger
from mesh.tasks.sweep import Sweep
from tests.builders import COST
from tests.integration.tasks.core import Core


def test_a_call_that_was_charged_for_want_of_knowledge_and_turns_out_to_have_failed_costs_nothing(core: Core) -> None:
    """Its worker counted as dead, and lived: a provider's refusal that arrives late is better knowledge."""
    core.submit(core.network())
    claim = core.claim()
    call_id = core.open_call(claim)
    sweep = Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock)
    sweep.give_back([(claim.step_id, claim.attempt)])
    (charged,) = core.calls(claim.task_id)
    assert (charged.state, charged.cost_usd, charged.estimated) == ("cancelled", 2 * COST, True)
    for code in ("rate_limited", "too_late"):
        with core.database.begin() as work:
            ledger.close_failed(work.connection, call_id, error_code=code, seconds=0.5, now=core.clock())
    (row,) = core.calls(claim.task_id)
    assert (row.state, row.cost_usd, row.estimated, row.error_code) == ("failed", 0, False, "rate_limited")
