"""What each kind of fault must come to, and one completion that meets it: by itself, or with other models behind it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from mesh.costs.ledger import Spender
from mesh.errors import AllModelsFailedError, DeadlineExceededError, InvalidReplyError
from mesh.models.board import BREAKER, Board
from mesh.models.breakers import OUT_SECONDS, Breakers
from mesh.models.calls import Cancellation, Completion, Preferences, Translator, Usage
from mesh.models.gateway import Gateway
from mesh.models.limits import REST, Limits
from mesh.models.selection import Selector
from mesh.tasks.journal import StepJournal
from mesh.testing import AwayRedis
from tests.builders import MODELS, Usual
from tests.integration.models.conftest import NAMES
from tests.integration.models.test_gateway import SCHEMA, repair
from tests.integration.models.test_litellm_calls import price
from tests.integration.tasks.core import Core, until

# A slow machine may be late by so much.
GRACE_SECONDS = 1.5

Line = tuple[str, str, str | None, str]


@dataclass(frozen=True)
class Fault:
    """A kind of the sandbox's (None: nobody listens), the code that it comes to, and for each of its calls the bill.

    `breaker` is what its end leaves on the board; `seconds` is what a completion by all providers is given.
    """

    kind: str | None
    code: str
    bill: str = "free"
    calls: int = 1
    breaker: str = "counted"
    seconds: float = 40.0


INVALID = Fault("invalid_schema", "invalid_reply", "exact", calls=2, breaker="closed")
FAULTS = {
    "401": Fault("401", "not_authorized", breaker="out"),
    "403": Fault("403", "not_authorized", breaker="out"),
    "404": Fault("404", "model_not_found", breaker="out"),
    "408": Fault("408", "timeout", "estimated"),
    "429 with Retry-After": Fault("429;30", "rate_limited", breaker="counted, rests"),
    "429": Fault("429", "rate_limited"),
    "quota": Fault("quota", "rate_limited"),
    "500": Fault("500", "provider_error"),
    "503": Fault("503", "provider_error"),
    "529": Fault("529", "overloaded"),
    "refused": Fault(None, "connection_failed", calls=2),
    "reset": Fault("reset", "connection_failed", "estimated", calls=2),
    "hang before the answer": Fault("hang", "timeout", "estimated", seconds=8),
    "hang during the answer": Fault("hang_stream", "timeout", "estimated", seconds=8),
    "drop": Fault("drop_stream", "malformed_reply", "estimated"),
    "truncated": Fault("truncate", "malformed_reply", "estimated"),
    "malformed body": Fault("malformed_body", "malformed_reply", "estimated"),
    "invalid schema": INVALID,
    "content block": Fault("content_block", "content_blocked", "estimated", breaker="closed"),
}


@dataclass(frozen=True)
class Case:
    """A completion whose first model is `provider`'s, and meets the fault; `alone`: no other provider is configured."""

    name: str
    provider: str
    stream: bool
    alone: bool

    @property
    def fault(self) -> Fault:
        """What it meets.  Half of a plain answer's text is told by the schema, and asked for once more."""
        return INVALID if self.name == "truncated" and not self.stream else FAULTS[self.name]

    @property
    def seconds(self) -> float:
        """What it is given: for each model the same."""
        return self.fault.seconds / (len(NAMES) if self.alone else 1)

    @property
    def mark(self) -> str:
        """What its prompt has, and no other fault's."""
        return f"<{self.name}>"

    @property
    def next(self) -> str:
        """Who is asked after it."""
        return next(name for name in NAMES if name != self.provider)


@dataclass(frozen=True)
class Outcome:
    """Who answered, or what was raised; what the board says of the faulty model; the ledger, see `bill`."""

    ended: str
    breaker: str
    rows: list[Line]
    in_time: bool


def expected(case: Case) -> Outcome:
    """What must become of it."""
    fault = case.fault
    rows: list[Line] = [(case.provider, "failed", fault.code, fault.bill)] * fault.calls
    if case.alone:
        return Outcome(fault.code, fault.breaker, rows, in_time=True)
    answered: Line = (case.next, "settled", None, "exact")
    return Outcome(f"answered by {case.next}", fault.breaker, [*rows, answered], in_time=True)


@dataclass(frozen=True)
class Ran:
    """A completion that has ended."""

    case: Case
    task_id: str
    ended: str
    breaker: str
    seconds: float

    def outcome(self, core: Core, sent: Mapping[str, dict[str, Any]]) -> Outcome:
        """What became of it, by the ledger and by what the sandbox has seen, by call."""
        rows = [
            (row.provider, row.state, row.error_code, bill(row, sent.get(row.id))) for row in core.calls(self.task_id)
        ]
        return Outcome(self.ended, self.breaker, rows, self.seconds < self.case.seconds + GRACE_SECONDS)


def run(case: Case, core: Core, network_id: str, calls: Translator) -> Ran:
    """Complete it as a worker would, with breakers of its own."""
    core.submit(network_id)
    claim = until(lambda: core.try_claim("agent.coordinator"))  # others may hold it until they have committed
    spender = Spender(claim.owner, None, network_id, claim.task_id, claim.step_id, claim.agent_type, claim.attempt)
    book = StepJournal(claim, spender, sandbox=True, database=core.database, wakeups=core.wakeups, clock=core.clock)
    board = Board(AwayRedis())
    began = time.monotonic()
    ended = _complete(case, gateway(calls, board, *([case.provider] if case.alone else NAMES)), book)
    return Ran(case, claim.task_id, ended, left_on(board, NAMES[case.provider]), time.monotonic() - began)


def gateway(calls: Translator, board: Board, *providers: str) -> Gateway:
    """A gateway whose breakers and limits are on `board`."""
    breakers = Breakers(board)
    selector = Selector(MODELS, providers, Usual(), closed=lambda name: not breakers.open(name))
    return Gateway(calls, selector, breakers, Limits(board, MODELS))


def _complete(case: Case, models: Gateway, book: StepJournal) -> str:
    request = Completion(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Write about {case.mark}."}],
        None if case.stream else {"name": "any", "strict": True, "schema": SCHEMA},
        _parse,
        repair,
        1000,
        preferences=Preferences(model=NAMES[case.provider]),
        on_text=(lambda _text: None) if case.stream else None,
    )
    try:
        reply = models.complete(request, journal=book, cancellation=Cancellation(), timeout_seconds=case.seconds)
    except AllModelsFailedError as error:
        return " ".join(cause.code for _, cause in error.causes)
    except DeadlineExceededError as error:
        return error.code
    book.settle(reply)
    return f"answered by {reply.model.provider}"


def _parse(text: str) -> str:
    """JSON by the schema where it is JSON; what is streamed is prose."""
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)["x"])
    except (ValueError, KeyError) as error:
        raise InvalidReplyError(["x: missing"]) from error


def left_on(board: Board, model: str) -> str:
    """What the board says of `model`: `closed`, `counted` (one failure) or `out` (for long), and whether it rests."""
    left = board.seconds_left(BREAKER + model)
    if left:
        return "out" if OUT_SECONDS - 60 < left <= OUT_SECONDS else f"open for {left} s"
    said = {0: "closed", 1: "counted"}.get(count := board.counted(BREAKER + model), f"{count} failures")
    return f"{said}, rests" if board.seconds_left(REST + model) else said


def bill(row: Row[Any], sent: Mapping[str, Any] | None) -> str:
    """How a row of the ledger is charged, against what its provider has seen (None: nothing).

    `exact` is the provider's count to the last digit, `estimated` no less than it, `free` nothing for a refusal.
    """
    seen = Usage(sent["prompt_tokens"], sent["completion_tokens"]) if sent else Usage()
    counted = Usage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens)
    true = price(MODELS.resolve(row.model), seen)
    if row.estimated and true <= row.cost_usd <= row.reserved_usd:
        return "estimated" if sent else "estimated, unseen"
    if not row.estimated and counted == seen and row.cost_usd == true > 0 and sent and sent["status"] == 200:
        return "exact"
    if not row.estimated and row.cost_usd == 0 and counted == Usage() and (not sent or sent["status"] >= 400):
        return "free"
    return f"wrong: {row.cost_usd} for {counted}, seen {seen}, {true}"
