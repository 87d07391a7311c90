"""The books of a generation's model calls, each in a short transaction, and what the caller is told of them.

models.gateway -> here -> mesh.costs.  As a step's journal, but for the fence: nothing is stored that another could own.
"""

from sqlalchemy import text

from mesh.clock import Clock
from mesh.costs import accounts, ledger
from mesh.costs.ledger import Bill, EndState, Opening, Spender
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import BudgetExceededError, ModelCallError
from mesh.generate.wire import Outbox
from mesh.models.calls import ModelCall, RawReply, Reply
from mesh.models.catalogue import Model
from mesh.tasks.journal import bill_of, bill_of_cut_off

_OPEN = text(ledger.opening("(SELECT 1) AS one"))


class GenerationJournal:
    """Keeps the books of one generation; see `mesh.models.calls.Journal`."""

    def __init__(self, spender: Spender, outbox: Outbox, *, sandbox: bool, database: Database, clock: Clock) -> None:
        self._spender = spender
        self._outbox = outbox
        self._sandbox = sandbox
        self._database = database
        self._clock = clock
        self._started = False
        self._shown = False

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case, and tell which model is asked."""
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
        self._database.persist(lambda work: self._open(work, opening))
        if not self._started:
            self._outbox.put("start", model=call.model.name, **({"sandbox": True} if self._sandbox else {}))
        elif after is not None and previous is not None:
            self._outbox.put(
                "fallback",
                from_model=previous.name,
                to_model=call.model.name,
                reason=after.code,
                restarted=self._shown,
            )
        self._started = True
        self._shown = False

    def _open(self, work: UnitOfWork, opening: Opening) -> None:
        connection, now, worst = work.connection, self._clock(), opening.reserved_usd
        found = accounts.lock(connection, self._spender.budgets, now=now)
        if ledger.stands(connection, opening.call_id):
            return  # a repetition of what took place
        held = []
        if found:
            if opening.unpriced:
                detail = f"{opening.model} has no known price, and so cannot be held to a budget."
                raise BudgetExceededError(detail, needed_usd=worst, left_usd=worst)
            accounts.judge(found, worst)
            held = accounts.hold(connection, found, worst, now=now)
        connection.execute(_OPEN, {**ledger.opening_values(self._spender, opening, held_by=held), "now": now})

    def failed(
        self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float, received: int | None
    ) -> None:
        """End the ledger row: with its bill if there is one, free if the provider refused, else as a cut-off call."""
        self._shown = bool(received)
        if raw is not None:
            self._close(call.call_id, bill_of(raw), "failed", error.code, seconds)
        elif error.may_cost:
            self._close(call.call_id, bill_of_cut_off(call, received), "failed", error.code, seconds)
        else:
            now = self._clock()
            self._database.persist(
                lambda work: ledger.close_failed(
                    work.connection, call.call_id, error_code=error.code, seconds=seconds, now=now
                )
            )

    def cancelled(self, call: ModelCall, *, seconds: float, received: int | None) -> None:
        """The caller went away: charged for the prompt and what came."""
        self._close(call.call_id, bill_of_cut_off(call, received), "cancelled", "cancelled", seconds)

    def settle(self, reply: Reply[str]) -> None:
        """End the ledger row of the call that brought the reply."""
        self._close(reply.call_id, bill_of(reply.raw), "settled", None, reply.latency_seconds)

    def _close(self, call_id: str, bill: Bill, state: EndState, error_code: str | None, seconds: float) -> None:
        now = self._clock()
        self._database.persist(
            lambda work: ledger.close_billed(
                work.connection, call_id, bill, seconds=seconds, state=state, error_code=error_code, now=now
            )
        )
