"""The journal of a step's model calls: ledger rows and events, each in a short transaction of its own.

models.gateway -> here.  Opening a call is also the fence: it takes the task's row and looks whether the step is still
this attempt's, so that nothing is asked for a task that was cancelled or a step that another worker has.  And it is
where budgets are asked: one round trip where there are none, a few more where there are.
"""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import text

from mesh.clock import Clock
from mesh.costs import ledger
from mesh.costs.accounts import Account
from mesh.costs.ledger import Opening, Spender
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import BudgetBusyError, InvalidReplyError, ModelCallError, StepLostError
from mesh.events import log, types
from mesh.models.books import Books
from mesh.models.calls import ModelCall
from mesh.models.catalogue import Model
from mesh.tasks import admission
from mesh.tasks.claims import Claim
from mesh.tasks.wakeups import Wakeups
from mesh.tasks.watching import StepText

# The task's row first, as everywhere; whatever changed the step while this waited for it is seen by the update.
# What runs while its task is paused may go on.
_OPEN = Prepared(
    f"""
    WITH alive AS (
        SELECT id FROM tasks WHERE id = :task_id AND status IN ('processing', 'paused') FOR NO KEY UPDATE
    ), above AS (
        SELECT count(*) AS budgets FROM budgets WHERE id = ANY(:budgets) AND id <> ALL(:held_by)
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


class StepJournal(Books):
    """Keeps the books of one attempt at one step; see `mesh.models.calls.Journal`."""

    def __init__(
        self,
        claim: Claim,
        spender: Spender,
        *,
        sandbox: bool,
        database: Database,
        wakeups: Wakeups,
        clock: Clock,
        text: StepText | None = None,
    ) -> None:
        """`text` is what the calls' text is shown by, if somebody watches."""
        super().__init__(spender, sandbox=sandbox, database=database, clock=clock)
        self._claim = claim
        self._wakeups = wakeups
        self._text = text
        self._started = False
        self._budgeted = False
        # The number of the event that told of the call opened last, as far as it is known.
        self._told_at: int | None = None

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case; an attempt's first call starts the step, one after a failure falls back."""
        opening = self.opening(call)
        events = self._events(call, after, previous)
        batch = log.Batch(self._claim.task_id, events, at=self.clock())
        self._told_at = None
        if not self._budgeted:
            self._budgeted = not self.database.persist(lambda work: self._open(work, opening, batch), atomic=False)
        if self._budgeted:
            self.database.persist(lambda work: self._open_under_budgets(work, opening, batch))
        if self._text is not None and events:  # else nothing of the text was shown yet
            self._text.begin(self._told_at)
        self._started = True
        self.shown = False

    def _open(self, work: UnitOfWork, opening: Opening, batch: log.Batch, *, held_by: Sequence[str] = ()) -> bool:
        """Open the call; False, and nothing is done, if there are budgets above it that do not hold it."""
        claim, spender = self._claim, self.spender
        values = {**ledger.opening_values(spender, opening, held_by=held_by), **batch.values()}
        row = _OPEN.execute(work.connection, values).one()
        if row.budgets:
            return False
        if not row.mine:
            raise StepLostError("The step is no longer this attempt's.")
        if row.before is not None:  # else the write that broke off had taken place
            stored = batch.stored(spender.network_id or "", row.before)
            self._wakeups.events(work, claim.task_id, stored)
            self._told_at = stored[-1].sequence if stored else None
        return True

    def _open_under_budgets(self, work: UnitOfWork, opening: Opening, batch: log.Batch) -> None:
        task = work.connection.execute(_LOCK, {"task_id": self._claim.task_id}).first()
        if task is None:
            raise StepLostError("The task has ended.")

        def admit(found: list[Account], worst: Decimal) -> None:
            if not task.admitted:
                admission.admit(work.connection, self.spender, found, worst)

        held = self.hold(work, opening, admit=admit)
        if not self._open(work, opening, batch, held_by=held):
            raise BudgetBusyError("A budget was set just now.")

    def _events(self, call: ModelCall, after: ModelCallError | None, previous: Model | None) -> list[types.Event]:
        claim = self._claim
        if not self._started:
            return [types.StepStarted(claim.step_id, claim.agent_name, claim.agent_id, call.model.name, claim.attempt)]
        if after is not None and previous is not None:
            return [types.Fallback(claim.step_id, previous.name, call.model.name, after.code, restarted=self.shown)]
        if self.shown:  # the same model is asked once more, to repair its reply
            name = call.model.name
            return [types.Fallback(claim.step_id, name, name, InvalidReplyError.code, restarted=True)]
        return []
