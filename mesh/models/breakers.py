"""Circuit breakers: a model that keeps failing is left alone for a while, by all processes.

gateway -> here -> board.  The gateway asks before a call and tells its end after it; nothing is held meanwhile:
pybreaker would hold its lock around a call that it wraps, and make all calls of a model wait for each other.
pybreaker counts and decides when to open; when it is over, and who then tries first, is the board's.
"""

from contextlib import suppress
from datetime import datetime

import structlog
from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitMemoryStorage,
)

from mesh.clock import now
from mesh.errors import ModelCallError
from mesh.models.board import BREAKER, OUT, Board, breaker_state, breaker_states
from mesh.models.verdicts import verdict

OUT_SECONDS = 300.0

# How long to wait for another one's try, which may end at any moment.
TRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Breakers:
    """One breaker a model; unknown ones are closed.

    `fail_max` failures without a success between them, over all processes, open it for `reset_seconds`; then one call
    of one process tries.  A process that dies while trying is waited for `probe_seconds`.
    """

    def __init__(
        self, board: Board, *, fail_max: int = 5, reset_seconds: float = 30.0, probe_seconds: float = 60.0
    ) -> None:
        self._board = board
        self._fail_max = fail_max
        self._reset_seconds = reset_seconds
        self._probe_seconds = probe_seconds
        self._breakers: dict[str, CircuitBreaker] = {}
        # The models that this process is trying.
        self._probing: set[str] = set()

    def admits(self, model: str) -> bool:
        """Whether `model` may be asked now; who gets True tells the end of the call, whatever it is.

        Asks Redis only when an open breaker's time is over.
        """
        name = BREAKER + model
        if self._board.entry(name) is None:
            return True
        if self.open(model):
            return False
        if self._board.put(name, STATE_HALF_OPEN, self._probe_seconds, rule="due"):
            self._probing.add(model)
            return True
        return self._board.entry(name) is None  # another process tried, and it works again

    def open(self, model: str) -> bool:
        """Whether `admits` would refuse now; asking changes nothing."""
        return self.seconds_left(model) > 0

    def seconds_left(self, model: str) -> float:
        """How long it is until somebody may try `model` again; 0 when it may be asked now."""
        return self._board.seconds_left(BREAKER + model)

    def wait_seconds(self, model: str) -> float:
        """After which time to ask again whether `model` may be asked, `TRY_SECONDS` at least."""
        entry = self._board.entry(BREAKER + model)
        if entry is None or entry.tag == STATE_HALF_OPEN:
            return TRY_SECONDS
        return max(self.seconds_left(model), TRY_SECONDS)

    def out(self, model: str) -> str | None:
        """The code of the failure for which `model` is taken out at present."""
        entry = self._board.entry(BREAKER + model)
        if entry is None or not entry.tag.startswith(OUT) or not self.open(model):
            return None
        return entry.tag.removeprefix(OUT)

    def tell(self, model: str, error: ModelCallError) -> None:
        """A call of `model` ended with `error`."""
        match verdict(error):
            case "failure":
                self.failed(model)
            case "take_out":
                self.take_out(model, error.code)
            case "neither":
                self.neither(model)

    def succeeded(self, model: str) -> None:
        """A call of `model` brought a reply."""
        if self._tried(model):
            self._breaker(model).close()
        elif self._board.counted(BREAKER + model) and self._closed(model):
            self._breaker(model).call(_succeed)

    def failed(self, model: str) -> None:
        """A call of `model` failed, and not by the request's fault.

        One that began before the breaker opened counts no more, else a slow one would keep it open.
        """
        if self._tried(model):
            self._breaker(model).open()
        elif self._closed(model):
            # pybreaker answers a report with what was reported, or with its own error when others opened it meanwhile.
            with suppress(_ReportedError, CircuitBreakerError):
                self._breaker(model).call(_fail)

    def neither(self, model: str) -> None:
        """A call of `model` ended without saying anything of it; if it was to try, another one may."""
        if self._tried(model):
            self._board.put(BREAKER + model, STATE_OPEN, 0)

    def take_out(self, model: str, reason: str) -> None:
        """`model` cannot work until somebody sees to it: leave it alone for `OUT_SECONDS`, and raise an alert."""
        tried = self._tried(model)
        if not tried and self.out(model):  # said already, by a call beside this one
            return
        log.error("model_taken_out", model=model, reason=reason, seconds=OUT_SECONDS)
        self._board.put(BREAKER + model, OUT + reason, OUT_SECONDS)

    def states(self) -> dict[str, str]:
        """The models whose breaker is not closed: `open` or `half-open`."""
        return breaker_states(self._board)

    def _closed(self, model: str) -> bool:
        return self._board.entry(BREAKER + model) is None

    def _tried(self, model: str) -> bool:
        """Whether this process was trying `model`; it does so no more.

        Calls are not told apart: a late one of the same process may end the try before its own call has ended.
        """
        if not self._probing:
            return False
        try:
            self._probing.remove(model)
        except KeyError:
            return False
        return not self._closed(model)

    def _breaker(self, model: str) -> CircuitBreaker:
        if model not in self._breakers:
            breaker = CircuitBreaker(
                self._fail_max,
                state_storage=_OnBoard(self._board, BREAKER + model, self._reset_seconds),
                name=model,
                throw_new_error_on_trip=False,
            )
            return self._breakers.setdefault(model, breaker)
        return self._breakers[model]


class _OnBoard(CircuitMemoryStorage):
    """pybreaker's state and count of failures, on the board."""

    def __init__(self, board: Board, name: str, reset_seconds: float) -> None:
        super().__init__(STATE_CLOSED)
        self._board = board
        self._key = name
        self._reset_seconds = reset_seconds

    @property
    def state(self) -> str:
        entry = self._board.entry(self._key)
        return breaker_state(entry) if entry else STATE_CLOSED

    @state.setter
    def state(self, state: str) -> None:
        log.warning("breaker_moved", model=self._key.removeprefix(BREAKER), state=state)
        if state == STATE_CLOSED:
            self._board.drop(self._key)
        else:
            self._board.put(self._key, state, self._reset_seconds)

    @property
    def opened_at(self) -> datetime:
        # Just now, whenever pybreaker looks, so that it never tries by itself: when, and who, is the board's to say.
        return now()

    @opened_at.setter
    def opened_at(self, instant: datetime) -> None:
        """The board keeps it, with the state."""

    @property
    def counter(self) -> int:
        return self._board.counted(self._key)

    def increment_counter(self) -> None:
        self._board.count(self._key)

    def reset_counter(self) -> None:
        if self.counter:
            self._board.uncount(self._key)


class _ReportedError(Exception):
    """Stands for a failure that has happened already."""


def _fail() -> None:
    raise _ReportedError


def _succeed() -> None:
    """Stands for a success that has happened already."""
