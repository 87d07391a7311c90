"""Model gateway: one valid reply out of the models that may be asked.

agents.runner -> here -> litellm_calls.  Selection says which models, in which order; for each: breaker, rate limit,
ledger and budgets, one call, validation; an invalid reply is repaired once by asking again; then the next model.
"""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from mesh.errors import (
    AllModelsFailedError,
    BudgetExceededError,
    DeadlineExceededError,
    InvalidReplyError,
    ModelCallError,
    ModelsBusyError,
    StepLostError,
)
from mesh.ids import new_id
from mesh.models.calls import (
    Cancellation,
    Completion,
    Journal,
    Messages,
    ModelCall,
    RawReply,
    Reply,
    T,
    Translator,
    prompt_bytes,
)
from mesh.models.catalogue import Model
from mesh.models.limits import Limits, Wait
from mesh.models.selection import Choice, Rejection, Selector, Wish

if TYPE_CHECKING:
    from mesh.models.breakers import Breakers  # pybreaker is for workers only

log = structlog.get_logger(__name__)

R = TypeVar("R")

# No call is begun with less than this left: it could not end in time.
LEAST_CALL_SECONDS = 0.1

MOST_MODELS = 5

# What each model leaves for the next ones, should it hang: enough for a usual reply, and never more than half.  All the
# rest is its own, since a long reply that is cut off costs as much as a whole one.
RESERVE_SECONDS = 30.0

# A slot outlasts its call by this, for what is written before and after it.
LEASE_MARGIN_SECONDS = 30.0

# What an English text has of bytes to a token, roughly; only rate limits are kept by it, and corrected afterwards.
BYTES_PER_TOKEN = 4


@dataclass(slots=True)
class _Turn:
    """One model's turn within a completion."""

    model: Model
    receipt: dict[str, Any]
    journal: Journal
    cancellation: Cancellation
    deadline: float
    # What went wrong before this turn, for the journal: told once, with the turn's first call.
    after: ModelCallError | None
    previous: Model | None

    @property
    def over(self) -> bool:
        """Whether too little time is left for a call."""
        return self.deadline - time.monotonic() < LEAST_CALL_SECONDS


@dataclass(slots=True)
class _Outcome:
    """What became of the models that were tried, or were not to be asked now."""

    causes: list[tuple[Model, ModelCallError]] = field(default_factory=list)
    waits: list[tuple[Model, ModelsBusyError]] = field(default_factory=list)
    refusals: list[BudgetExceededError] = field(default_factory=list)

    def error(self) -> Exception:
        """Why there is no reply, unless there was only to wait."""
        if not self.causes and self.refusals:
            return min(self.refusals, key=lambda refusal: refusal.needed_usd)
        waits = [
            (model, ModelCallError("rate_limited", str(wait), retry_after_seconds=wait.seconds))
            for model, wait in self.waits
        ]
        return AllModelsFailedError([(model.name, error) for model, error in [*self.causes, *waits]])


class Gateway:
    """Completions with fallback."""

    def __init__(self, translator: Translator, selector: Selector, breakers: "Breakers", limits: Limits) -> None:
        self._translator = translator
        self._selector = selector
        self._breakers = breakers
        self._limits = limits

    def complete(
        self, request: Completion[T], *, journal: Journal, cancellation: Cancellation, timeout_seconds: float
    ) -> Reply[T]:
        """The first valid reply of the chosen models; its ledger row is left open for the caller to settle.

        `timeout_seconds` bounds the whole; each model but the last leaves `RESERVE_SECONDS` of it, or half.

        Raises:
            DeadlineExceededError: the time is over.
            StepLostError: the step was cancelled, or is another worker's by now.
            BudgetExceededError: no model fits into what the budgets have left.
            BudgetBusyError: calls under way hold what is left.
            ModelsBusyError: none may be asked now.
            AllModelsFailedError: holds one cause for each model tried, or taken out.
        """
        deadline = time.monotonic() + timeout_seconds
        wish = _wish(request)
        choice = self._selector.choose(wish)
        models = [candidate.model for candidate in choice.candidates][:MOST_MODELS]
        outcome = _Outcome()
        for index, model in enumerate(models):
            left = deadline - time.monotonic()
            if left < LEAST_CALL_SECONDS:
                raise DeadlineExceededError("The time for this step is over.")
            previous, after = outcome.causes[-1] if outcome.causes else (None, None)
            reserve = _reserve_seconds(left) if index < len(models) - 1 else 0
            turn = _Turn(model, choice.receipt(model), journal, cancellation, deadline - reserve, after, previous)
            reply = self._try(request, turn, outcome)
            if reply is not None:
                return reply
        if outcome.causes and deadline - time.monotonic() < LEAST_CALL_SECONDS:
            raise DeadlineExceededError("The time for this step is over.")
        busy = [*(wait for _, wait in outcome.waits), *self._resting(choice)]
        if busy and not outcome.causes:  # before refusals: a task that can go on soon is not paused
            raise min(busy, key=lambda error: error.seconds)
        raise outcome.error() if models else self._nobody(wish, choice)

    def _try(self, request: Completion[T], turn: _Turn, outcome: _Outcome) -> Reply[T] | None:
        """The model's valid reply, or None with the reason noted in `outcome`; its breaker is told."""
        try:
            return self._admitted(turn.model.name, partial(self._ask, request, turn))
        except ModelCallError as error:
            outcome.causes.append((turn.model, error))
        except ModelsBusyError as error:
            outcome.waits.append((turn.model, error))
        except BudgetExceededError as error:  # a cheaper one may fit
            outcome.refusals.append(error)
        return None

    def ask_one(self, call: ModelCall, *, journal: Journal, parse: Callable[[RawReply], R]) -> Reply[R]:
        """One call of one model, where no other may answer in its place; its ledger row is left open, as `complete`'s.

        `parse` raises `ModelCallError` for an answer of no use, which is paid for all the same.

        Raises:
            ModelsBusyError: it may not be asked now.
            BudgetExceededError, BudgetBusyError: as `complete`.
            ModelCallError: it failed, or is taken out.
        """
        return self._admitted(call.model.name, partial(self._ask_one, call, journal, parse))

    def _ask_one(self, call: ModelCall, journal: Journal, parse: Callable[[RawReply], R]) -> Reply[R]:
        started = time.monotonic()
        deadline = started + call.timeout_seconds
        turn = _Turn(call.model, {}, journal, Cancellation(), deadline, after=None, previous=None)
        raw = self._send(call, turn, _Stream(None))
        seconds = time.monotonic() - started
        try:
            return Reply(parse(raw), call.call_id, call.model, raw, seconds)
        except ModelCallError as error:
            journal.failed(call, error, raw, seconds=seconds, received=None)
            raise

    def _admitted(self, name: str, ask: Callable[[], R]) -> R:
        """What `ask` brings, if the model's breaker lets it be asked; the breaker is told how that ended."""
        if not self._breakers.admits(name):
            if code := self._breakers.out(name):
                raise _out(code)
            raise self._open(name)
        try:
            reply = ask()
        except ModelCallError as error:
            log.warning("model_failed", model=name, code=error.code, status=error.status)
            self._breakers.tell(name, error)
            if error.retry_after_seconds:
                self._limits.rest(name, error.retry_after_seconds)
            raise
        except Exception:
            self._breakers.neither(name)
            raise
        self._breakers.succeeded(name)
        return reply

    def _open(self, name: str) -> ModelsBusyError:
        seconds = self._breakers.wait_seconds(name)
        return ModelsBusyError(f"{name} failed too often lately, and rests.", seconds=seconds)

    def _resting(self, choice: Choice) -> list[ModelsBusyError]:
        """Of the models that could do the job but rest, those that nobody has to see to first."""
        resting = [name for name, why in choice.rejected.items() if why is Rejection.BREAKER_OPEN]
        return [self._open(name) for name in resting if not self._breakers.out(name)]

    def _nobody(self, wish: Wish, choice: Choice) -> Exception:
        """Why no model may be asked at all, though none rests: it costs too much, is taken out, or none can do it."""
        left, needed = wish.budget_left_usd, self._selector.least_usd(wish, choice)
        if left is not None and needed is not None:
            detail = f"A budget has {left:f} US dollars left; the cheapest call may take {needed:f}."
            return BudgetExceededError(detail, needed_usd=needed, left_usd=left)
        return AllModelsFailedError([(name, self._unfit(name, why)) for name, why in choice.rejected.items()])

    def _unfit(self, name: str, why: Rejection) -> ModelCallError:
        code = self._breakers.out(name) if why is Rejection.BREAKER_OPEN else None
        return _out(code) if code else ModelCallError("not_suitable", str(why))

    def _ask(self, request: Completion[T], turn: _Turn) -> Reply[T]:
        """The model's valid reply, asking once more when the first one is invalid."""
        messages = request.messages
        for last in (False, True):
            started = time.monotonic()
            call, raw = self._call_once_connected(request, messages, turn)
            try:
                value = request.parse(raw.text)
            except InvalidReplyError as error:
                seconds = time.monotonic() - started
                failure = ModelCallError(error.code, "; ".join(error.errors))
                received = len(raw.text.encode()) if request.on_text else None
                turn.journal.failed(call, failure, raw, seconds=seconds, received=received)
                if last or request.repair is None or turn.over:
                    raise failure from error
                messages = request.repair(messages, raw.text, error.errors)
            else:
                return Reply(value, call.call_id, turn.model, raw, time.monotonic() - started)
        raise AssertionError("the last round returns or raises")

    def _call_once_connected(
        self, request: Completion[Any], messages: Messages, turn: _Turn
    ) -> tuple[ModelCall, RawReply]:
        """One call, and one more if the connection failed before any answer: a kept-alive one may have gone stale."""
        try:
            return self._call(request, messages, turn)
        except ModelCallError as error:
            if error.code != "connection_failed" or turn.over:
                raise
            return self._call(request, messages, turn)

    def _call(self, request: Completion[Any], messages: Messages, turn: _Turn) -> tuple[ModelCall, RawReply]:
        stream = _Stream(request.on_text)
        call = _model_call(request, messages, turn, stream)
        return call, self._send(call, turn, stream)

    def _send(self, call: ModelCall, turn: _Turn, stream: "_Stream") -> RawReply:
        """One call within the rate limits; `ModelsBusyError` when it would pass one."""
        estimate = call.prompt_bytes // BYTES_PER_TOKEN + call.max_tokens
        lease_seconds = call.timeout_seconds + LEASE_MARGIN_SECONDS
        grant = self._limits.take(call.model, call_id=call.call_id, tokens=estimate, lease_seconds=lease_seconds)
        if isinstance(grant, Wait):
            raise ModelsBusyError(f"{call.model.name} has reached its rate limit.", seconds=grant.seconds)
        used, sent = 0, False
        try:
            turn.journal.opened(call, after=turn.after, previous=turn.previous)
            turn.after = turn.previous = None
            used, sent = estimate, True
            raw = self._make(call, turn, stream)
            used = raw.usage.prompt_tokens + raw.usage.completion_tokens
        except ModelCallError as error:
            used = used if error.may_cost else 0
            raise
        finally:
            self._limits.give_back(grant, used, sent=sent)
        return raw

    def _make(self, call: ModelCall, turn: _Turn, stream: "_Stream") -> RawReply:
        """Send an opened call; one that fails or is cancelled is closed in the journal."""
        started = time.monotonic()
        try:
            return turn.cancellation.watch(lambda: self._translator.start(call)).result()
        except StepLostError:  # before it was sent: it costs nothing
            unsent = ModelCallError("cancelled", "The step was cancelled before its model was asked.")
            turn.journal.failed(call, unsent, None, seconds=0, received=stream.received)
            raise
        except CancelledError as error:
            turn.journal.cancelled(call, seconds=time.monotonic() - started, received=stream.received)
            raise StepLostError("The step was cancelled while its model was at work.") from error
        except ModelCallError as error:
            seconds = time.monotonic() - started
            turn.journal.failed(call, error, None, seconds=seconds, received=stream.received)
            raise


class _Stream:
    """Passes on one call's text, and knows how many bytes came; None if it is not streamed."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self._on_text = on_text
        self.received: int | None = 0 if on_text else None

    def hand_on(self, text: str) -> None:
        """Take a piece."""
        if self._on_text is not None:
            self.received = (self.received or 0) + len(text.encode())
            self._on_text(text)


def _reserve_seconds(left: float) -> float:
    """How much of the seconds `left` is for the next models; none if half of it would not be enough for a call."""
    return min(RESERVE_SECONDS, left / 2) if left / 2 > 2 * LEAST_CALL_SECONDS else 0


def _out(code: str) -> ModelCallError:
    return ModelCallError(code, "A call failed so a few minutes ago; nobody asks it until somebody has seen to that.")


def _wish(request: Completion[Any]) -> Wish:
    return Wish(
        preferences=request.preferences,
        agent_type=request.agent_type,
        prompt_bytes=prompt_bytes(request.messages, request.schema),
        max_tokens=request.max_tokens,
        needs_schema=request.schema is not None,
        has_images=any(not isinstance(message["content"], str) for message in request.messages),
        budget_left_usd=request.budget_left_usd,
    )


def _model_call(request: Completion[Any], messages: Messages, turn: _Turn, stream: _Stream) -> ModelCall:
    if turn.over:
        raise ModelCallError("no_time_left", "No time was left to ask the model.")
    limit = turn.model.max_output_tokens
    return ModelCall(
        call_id=new_id("call"),
        requested_model=request.preferences.model,
        model=turn.model,
        messages=messages,
        schema=request.schema,
        max_tokens=min(request.max_tokens, limit) if limit else request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        timeout_seconds=turn.deadline - time.monotonic(),
        selection=turn.receipt,
        on_text=stream.hand_on if request.on_text else None,
    )
