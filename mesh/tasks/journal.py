"""The journal of a step's model calls: ledger rows and events, each in a short transaction of its own.

models.gateway -> here.  Opening a call is also the fence: it takes the task's row and looks whether the step is still
this attempt's, so that nothing is asked for a task that was cancelled or a step that another worker has.  And it is
where budgets are asked: one round trip where there are none, a few more where there are.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text

from mesh.clock import Clock
from mesh.costs import accounts, ledger
from mesh.costs.ledger import Bill, Opening, Spender
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import BudgetExceededError, ModelCallError, StepLostError
from mesh.events import log, types
from mesh.models.calls import ModelCall, RawReply
from mesh.models.catalogue import Model
from mesh.tasks import admission
from mesh.tasks.claims import Claim
from mesh.tasks.wakeups import Wakeups

# The task's row first, as everywhere; whatever changed the step while this waited for it is seen by the update.
# What runs while its task is paused may go on.
_OPEN = Prepared(
    f"""
    WITH alive AS (
        SELECT id FROM tasks WHERE id = :task_id AND status IN ('processing', 'paused') FOR NO KEY UPDATE
    ), above AS (
        SELECT count(*) AS budgets FROM budgets WHERE id = ANY(:budgets) AND NOT :asked
    ), mine AS (
        UPDATE steps SET model = :model
        WHERE id = :step_id AND attempt = :attempt AND state = 'running' AND EXISTS (SELECT FROM alive)
            AND (SELECT budgets FROM above) = 0
        RETURNING id
    ), booked AS ({ledger.opening("mine")}
    ), {log.appending("EXISTS (SELECT FROM booked)")}
    SELECT (SELECT count(*) FROM mine) AS mine, (SELECT before FROM numbered) AS before,
           (SELECT budgets FROM above) AS budgets
    """,  # noqa: S608  # built from constants of ours
    attempt="int",
    asked="boolean",
    budgets="text[]",
    held_by="text[]",
    reserved_usd="numeric",
    unpriced="boolean",
    sandbox="boolean",
    selection="jsonb",
    now="timestamptz",
    count="int",
    events="jsonb",
)

_LOCK = text("SELECT admitted FROM tasks WHERE id = :task_id AND status IN ('processing', 'paused') FOR NO KEY UPDATE")


class StepJournal:
    """Keeps the books of one attempt at one step; see `mesh.models.calls.Journal`."""

    def __init__(
        self, claim: Claim, spender: Spender, *, sandbox: bool, database: Database, wakeups: Wakeups, clock: Clock
    ) -> None:
        self._claim = claim
        self._spender = spender
        self._sandbox = sandbox
        self._database = database
        self._wakeups = wakeups
        self._clock = clock
        self._started = False
        self._budgeted = False
        self._shown = False

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case; an attempt's first call starts the step, one after a failure falls back."""
        opening = Opening(
            call_id=call.call_id,
            requested_model=call.requested_model,
            model=call.model.name,
            provider=call.model.provider,
            reserved_usd=call.worst_case_usd,
            unpriced=not call.model.priced,
            sandbox=self._sandbox,
            selection=call.selection,
        )
        batch = log.Batch(self._claim.task_id, self._events(call, after, previous), at=self._clock())
        if not self._budgeted:
            self._budgeted = self._database.persist(
                lambda work: self._open(work, opening, batch, asked=False), atomic=False
            )
        if self._budgeted:
            self._database.persist(lambda work: self._open_under_budgets(work, opening, batch))
        self._started = True
        self._shown = False

    def _open(
        self, work: UnitOfWork, opening: Opening, batch: log.Batch, *, asked: bool, held_by: Sequence[str] = ()
    ) -> bool:
        """Open the call, and False; nothing, and True, if there are budgets that were not `asked`."""
        claim, spender = self._claim, self._spender
        values = {**ledger.opening_values(spender, opening, held_by=held_by), **batch.values()}
        row = _OPEN.execute(work.connection, {**values, "budgets": spender.budgets, "asked": asked}).one()
        if row.budgets:
            return True
        if not row.mine:
            raise StepLostError("The step is no longer this attempt's.")
        if row.before is not None:  # else the write that broke off had taken place
            self._wakeups.events(work, claim.task_id, batch.stored(spender.network_id or "", row.before))
        return False

    def _open_under_budgets(self, work: UnitOfWork, opening: Opening, batch: log.Batch) -> None:
        connection, now, worst = work.connection, self._clock(), opening.reserved_usd
        task: Row[Any] | None = connection.execute(_LOCK, {"task_id": self._claim.task_id}).first()
        found = accounts.lock(connection, self._spender.budgets, now=now)
        if task is None or ledger.stands(connection, opening.call_id):
            held = []  # lost, or a repetition of what took place: `_open` tells
        elif found and opening.unpriced:
            raise BudgetExceededError(
                f"{opening.model} has no known price, and so cannot be held to a budget.",
                needed_usd=worst,
                left_usd=worst,
            )
        elif found:
            accounts.judge(found, worst)
            if not task.admitted:
                admission.admit(connection, self._spender, found, worst)
            held = accounts.hold(connection, found, worst, now=now)
        else:
            held = []  # the budgets were removed meanwhile
        self._open(work, opening, batch, asked=True, held_by=held)

    def _events(self, call: ModelCall, after: ModelCallError | None, previous: Model | None) -> list[types.Event]:
        claim = self._claim
        if not self._started:
            return [types.StepStarted(claim.step_id, claim.agent_name, claim.agent_id, call.model.name, claim.attempt)]
        if after is not None and previous is not None:
            return [types.Fallback(claim.step_id, previous.name, call.model.name, after.code, restarted=self._shown)]
        return []  # the same model is asked once more

    def failed(
        self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float, received: int | None
    ) -> None:
        """End the ledger row: with its bill if there is one, free if the provider refused, else as a cut-off call."""
        self._shown = bool(received)
        if raw is not None:
            self._close(call, bill_of(raw), state="failed", error_code=error.code, seconds=seconds)
        elif error.may_cost:
            self._close(call, bill_of_cut_off(call, received), state="failed", error_code=error.code, seconds=seconds)
        else:
            now = self._clock()
            self._database.persist(
                lambda work: ledger.close_failed(
                    work.connection, call.call_id, error_code=error.code, seconds=seconds, now=now
                )
            )

    def cancelled(self, call: ModelCall, *, seconds: float, received: int | None) -> None:
        """The provider was cut off: charged for the prompt and what came, or in full if nobody knows what came."""
        bill = bill_of_cut_off(call, received)
        self._close(call, bill, state="cancelled", error_code="cancelled", seconds=seconds)

    def _close(self, call: ModelCall, bill: Bill, *, state: ledger.EndState, error_code: str, seconds: float) -> None:
        now = self._clock()
        self._database.persist(
            lambda work: ledger.close_billed(
                work.connection, call.call_id, bill, seconds=seconds, state=state, error_code=error_code, now=now
            )
        )


def bill_of(raw: RawReply) -> Bill:
    """The ledger's view of a provider's answer."""
    usage = raw.usage
    return Bill(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        raw.cost_usd,
        estimated=raw.estimated,
    )


def bill_of_cut_off(call: ModelCall, received: int | None) -> Bill:
    """An upper bound of what a call cost that was cut off after `received` bytes of text."""
    return Bill(0, 0, 0, 0, call.cut_off_usd(received), estimated=True)
