"""The books of model calls: a ledger row for each, and what budgets hold for it, in short transactions of their own.

tasks.journal and generate.journal are Books; they say how a call is opened.  gateway -> here -> mesh.costs.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from mesh.clock import Clock
from mesh.costs import accounts, ledger
from mesh.costs.accounts import Account
from mesh.costs.ledger import Bill, EndState, Opening, Spender
from mesh.db.unit_of_work import Database, UnitOfWork
from mesh.errors import BudgetBusyError, ModelCallError
from mesh.models.calls import ModelCall, RawReply, Reply

_OPEN = text(ledger.opening("(SELECT 1) AS one"))


class Books:
    """Ends the ledger rows of one spender's calls; see `mesh.models.calls.Journal`."""

    def __init__(self, spender: Spender, *, sandbox: bool, database: Database, clock: Clock) -> None:
        self.spender = spender
        self.database = database
        self.clock = clock
        self._sandbox = sandbox
        # Whether the call that failed last had text to show.
        self.shown = False

    def reserve(self, call: ModelCall) -> None:
        """Open the call's row with its worst case held, where no step or task has to be looked at first.

        Raises:
            BudgetExceededError, BudgetBusyError: see `accounts.judge`.
        """
        opening = self.opening(call)
        self.database.persist(lambda work: self._reserve(work, opening))

    def _reserve(self, work: UnitOfWork, opening: Opening) -> None:
        values = ledger.opening_values(self.spender, opening, held_by=self.hold(work, opening))
        stored = work.connection.execute(_OPEN, {**values, "now": self.clock()}).first()
        if stored is None and ledger.held_by(work.connection, opening.call_id) is None:
            raise BudgetBusyError("A budget was set just now.")

    def opening(self, call: ModelCall) -> Opening:
        """The ledger's view of a call about to be made."""
        return Opening(
            call_id=call.call_id,
            requested_model=call.requested_model,
            model=call.model.name,
            provider=call.model.provider,
            reserved_usd=call.worst_case_usd,
            unpriced=not call.model.priced,
            sandbox=self._sandbox,
            selection=call.selection,
        )

    def hold(
        self, work: UnitOfWork, opening: Opening, *, admit: Callable[[list[Account], Decimal], None] | None = None
    ) -> list[str]:
        """Hold the call's worst case against the budgets above it; `admit` may have a say as well.

        Answers the ids of those that hold it, also when they do already, by a write whose answer was lost.

        Raises:
            BudgetExceededError, BudgetBusyError: see `accounts.judge`.
        """
        connection, now, worst = work.connection, self.clock(), opening.reserved_usd
        found = accounts.lock(connection, self.spender.budgets, now=now)
        held = ledger.held_by(connection, opening.call_id)
        if not found or held is not None:
            return held or []
        accounts.judge(found, worst, unpriced=opening.unpriced)
        if admit is not None:
            admit(found, worst)
        return accounts.hold(connection, found, worst, now=now)

    def failed(
        self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float, received: int | None
    ) -> None:
        """End the ledger row: with its bill if there is one, free if the provider refused, else as a cut-off call."""
        self.shown = bool(received)
        if raw is not None:
            self._close(call.call_id, bill_of(raw), "failed", error.code, seconds)
        elif error.may_cost:
            self._close(call.call_id, _cut_off(call, received), "failed", error.code, seconds)
        else:
            now = self.clock()
            self.database.persist(
                lambda work: ledger.close_failed(
                    work.connection, call.call_id, error_code=error.code, seconds=seconds, now=now
                )
            )

    def cancelled(self, call: ModelCall, *, seconds: float, received: int | None) -> None:
        """The provider was cut off: charged for the prompt and what came, or in full if nobody knows what came."""
        self._close(call.call_id, _cut_off(call, received), "cancelled", "cancelled", seconds)

    def settle(self, reply: Reply[Any]) -> None:
        """End the ledger row of the call that brought the reply, where nothing else is stored with it."""
        self._close(reply.call_id, bill_of(reply.raw), "settled", None, reply.latency_seconds)

    def _close(self, call_id: str, bill: Bill, state: EndState, error_code: str | None, seconds: float) -> None:
        now = self.clock()
        self.database.persist(
            lambda work: ledger.close_billed(
                work.connection, call_id, bill, seconds=seconds, state=state, error_code=error_code, now=now
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


def _cut_off(call: ModelCall, received: int | None) -> Bill:
    """An upper bound of what a call cost that was cut off after `received` bytes of text."""
    return Bill(0, 0, 0, 0, call.cut_off_usd(received), estimated=True)
