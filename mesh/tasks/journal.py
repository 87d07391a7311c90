"""The journal of a step's model calls: ledger rows and events, each in a short transaction of its own.

models.gateway -> here.  Opening a call is also the fence: it takes the task's row and looks whether the step is still
this attempt's, so that nothing is asked for a task that was cancelled or a step that another worker has.
"""

from mesh.clock import Clock
from mesh.costs import ledger
from mesh.costs.ledger import Bill, Opening, Spender
from mesh.db.prepared import Prepared
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import ModelCallError, StepLostError
from mesh.events import log, types
from mesh.models.calls import ModelCall, RawReply
from mesh.models.catalogue import Model
from mesh.tasks.claims import Claim
from mesh.tasks.wakeups import Wakeups

# The task's row first, as everywhere; whatever changed the step while this waited for it is seen by the update.
_OPEN = Prepared(
    f"""
    WITH alive AS (
        SELECT id FROM tasks WHERE id = :task_id AND status = 'processing' FOR NO KEY UPDATE
    ), mine AS (
        UPDATE steps SET model = :model
        WHERE id = :step_id AND attempt = :attempt AND state = 'running' AND EXISTS (SELECT FROM alive)
        RETURNING id
    ), booked AS ({ledger.opening("mine")}
    ), {log.appending("EXISTS (SELECT FROM booked)")}
    SELECT (SELECT count(*) FROM mine) AS mine, (SELECT before FROM numbered) AS before
    """,  # noqa: S608  # built from constants of ours
    attempt="int",
    reserved_usd="numeric",
    unpriced="boolean",
    sandbox="boolean",
    now="timestamptz",
    count="int",
    events="jsonb",
)


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

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case; an attempt's first call starts the step, one after a failure falls back."""
        claim, spender = self._claim, self._spender
        opening = Opening(
            call_id=call.call_id,
            requested_model=call.requested_model,
            model=call.model.name,
            provider=call.model.provider,
            reserved_usd=call.worst_case_usd,
            unpriced=not call.model.priced,
            sandbox=self._sandbox,
        )
        batch = log.Batch(claim.task_id, self._events(call, after, previous), at=self._clock())
        values = {**ledger.opening_values(spender, opening), **batch.values()}

        def open_row(work: UnitOfWork) -> None:
            row = _OPEN.execute(work.connection, values).one()
            if not row.mine:
                raise StepLostError("The step is no longer this attempt's.")
            if row.before is not None:  # else the write that broke off had taken place
                self._wakeups.events(work, claim.task_id, batch.stored(spender.network_id or "", row.before))

        self._database.persist(open_row, atomic=False)
        self._started = True

    def _events(self, call: ModelCall, after: ModelCallError | None, previous: Model | None) -> list[types.Event]:
        claim = self._claim
        if not self._started:
            return [types.StepStarted(claim.step_id, claim.agent_name, claim.agent_id, call.model.name, claim.attempt)]
        if after is not None and previous is not None:
            return [types.Fallback(claim.step_id, previous.name, call.model.name, after.code, restarted=False)]
        return []  # the same model is asked once more

    def failed(self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float) -> None:
        """End the ledger row: with its bill if there is one, free if the provider refused, else charged in full."""
        now = self._clock()

        def end_row(work: UnitOfWork) -> None:
            connection = work.connection
            if raw is not None:
                bill = bill_of(raw)
                ledger.close_useless(connection, call.call_id, bill, seconds=seconds, error_code=error.code, now=now)
            elif error.may_cost:
                ledger.close_unknown(connection, call_id=call.call_id, now=now, error_code=error.code)
            else:
                ledger.close_failed(connection, call.call_id, error_code=error.code, seconds=seconds, now=now)

        self._database.persist(end_row)

    def cancelled(self, call: ModelCall) -> None:
        """The provider was cut off: charged in full, since it does not say what it used."""
        now = self._clock()
        self._database.persist(
            lambda work: ledger.close_unknown(work.connection, call_id=call.call_id, now=now, error_code="cancelled")
        )


def bill_of(raw: RawReply) -> Bill:
    """The ledger's view of a provider's answer."""
    usage = raw.usage
    return Bill(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens, raw.cost_usd)
