"""The journal of a step's model calls: ledger rows and events, each in a short transaction of its own.

models.gateway -> here.  Opening a call is also the fence: it takes the task's row and looks whether the step is still
this attempt's, so that nothing is asked for a task that was cancelled or a step that another worker has.
"""

from sqlalchemy import Connection, text

from mesh.clock import Clock
from mesh.costs import ledger
from mesh.costs.ledger import Bill, Opening, Spender
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import ModelCallError, StepLostError
from mesh.events import log, types
from mesh.models.calls import ModelCall, RawReply
from mesh.models.catalogue import Model
from mesh.tasks.claims import Claim
from mesh.tasks.wakeups import Wakeups

# The task's row first, as everywhere; whatever changed the step while this waited for it is seen by the update.
_FENCE = text(
    """
    WITH alive AS (
        SELECT id FROM tasks WHERE id = :task_id AND status = 'processing' FOR NO KEY UPDATE
    )
    UPDATE steps SET model = :model
    WHERE id = :step_id AND attempt = :attempt AND state = 'running' AND EXISTS (SELECT 1 FROM alive)
    """
)


class StepJournal:
    """Keeps the books of one attempt at one step; see `mesh.models.calls.Journal`."""

    def __init__(  # who, for whom, and the three things it works with
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
        now = self._clock()

        def open_row(work: UnitOfWork) -> None:
            self._fence(work.connection, call.model.name)
            opening = Opening(
                call_id=call.call_id,
                requested_model=call.requested_model,
                model=call.model.name,
                provider=call.model.provider,
                reserved_usd=call.worst_case_usd,
                unpriced=not call.model.priced,
                sandbox=self._sandbox,
            )
            if not ledger.open_call(work.connection, self._spender, opening, now=now):
                return  # the commit that broke off had taken place
            network_id = self._spender.network_id or ""
            events = self._events(call, after, previous)
            stored = log.append(work.connection, self._claim.task_id, network_id, events, at=now)
            self._wakeups.events(work, self._claim.task_id, stored)

        self._database.persist(open_row)
        self._started = True

    def _fence(self, connection: Connection, model: str) -> None:
        claim = self._claim
        values = {"task_id": claim.task_id, "step_id": claim.step_id, "attempt": claim.attempt, "model": model}
        if connection.execute(_FENCE, values).rowcount == 0:
            raise StepLostError("The step is no longer this attempt's.")

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
                ledger.settle(connection, call.call_id, bill_of(raw), seconds=seconds, now=now, error_code=error.code)
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
