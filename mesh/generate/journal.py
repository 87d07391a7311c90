"""The books of a generation's model calls, and what the caller is told of them.

models.gateway -> here -> mesh.models.books.  As a step's journal, but for the fence: nothing is stored that another
could own.
"""

from mesh.clock import Clock
from mesh.costs.ledger import Spender
from mesh.db.unit_of_work import Database
from mesh.errors import ModelCallError
from mesh.generate.wire import Outbox
from mesh.models.books import Books
from mesh.models.calls import ModelCall
from mesh.models.catalogue import Model


class GenerationJournal(Books):
    """Keeps the books of one generation; see `mesh.models.calls.Journal`."""

    def __init__(self, spender: Spender, outbox: Outbox, *, sandbox: bool, database: Database, clock: Clock) -> None:
        super().__init__(spender, sandbox=sandbox, database=database, clock=clock)
        self._outbox = outbox
        self._told = {"sandbox": True} if sandbox else {}
        self._started = False

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """Reserve the call's worst case, and tell which model is asked."""
        self.reserve(call)
        if not self._started:
            self._outbox.put("start", model=call.model.name, **self._told)
        elif after is not None and previous is not None:
            self._outbox.put(
                "fallback",
                from_model=previous.name,
                to_model=call.model.name,
                reason=after.code,
                restarted=self.shown,
            )
        self._started = True
        self.shown = False
