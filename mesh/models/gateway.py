"""Model gateway: one valid reply out of a chain of models.

agents.runner -> here -> litellm_calls.  For each model in order: open the ledger row, one call, validate; an invalid
reply is repaired once by asking again; then the next model.
"""

import time
from collections.abc import Collection
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import structlog

from mesh.errors import AllModelsFailedError, DeadlineExceededError, InvalidReplyError, ModelCallError, StepLostError
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
)
from mesh.models.catalogue import Catalogue, Model

log = structlog.get_logger(__name__)

# No call is begun with less than this left: it could not end in time.
LEAST_CALL_SECONDS = 0.1


@dataclass(slots=True)
class _Turn:
    """One model's turn within a completion."""

    model: Model
    journal: Journal
    cancellation: Cancellation
    deadline: float
    # What went wrong before this turn, for the journal: told once, with the turn's first call.
    after: ModelCallError | None
    previous: Model | None


class Gateway:
    """Completions with fallback; `providers` are those that are configured."""

    def __init__(self, catalogue: Catalogue, translator: Translator, *, providers: Collection[str]) -> None:
        self._catalogue = catalogue
        self._translator = translator
        self._providers = frozenset(providers)

    def complete(
        self, request: Completion[T], *, journal: Journal, cancellation: Cancellation, timeout_seconds: float
    ) -> Reply[T]:
        """The first valid reply along the chain; its ledger row is left open for the caller to settle.

        `timeout_seconds` bounds the whole chain; each model gets its share of what is left, so that one that hangs
        leaves time for the next.

        Raises:
            DeadlineExceededError: the time is over.
            StepLostError: the step was cancelled, or is another worker's by now.
            AllModelsFailedError: holds one cause for each model tried.
        """
        deadline = time.monotonic() + timeout_seconds
        models = self._candidates(request.preferences.model)
        causes: list[tuple[str, ModelCallError]] = []
        for index, model in enumerate(models):
            left = deadline - time.monotonic()
            if left < LEAST_CALL_SECONDS:
                raise DeadlineExceededError("The time for this step is over.")
            after = causes[-1][1] if causes else None
            previous = models[index - 1] if causes else None
            share = time.monotonic() + left / (len(models) - index)
            try:
                return self._ask(request, _Turn(model, journal, cancellation, share, after, previous))
            except ModelCallError as error:
                log.warning("model_failed", model=model.name, code=error.code, status=error.status)
                causes.append((model.name, error))
        if deadline - time.monotonic() < LEAST_CALL_SECONDS:
            raise DeadlineExceededError("The time for this step is over.")
        raise AllModelsFailedError(causes)

    def _candidates(self, explicit: str | None) -> list[Model]:
        """An explicit model first, then the chain; only those whose provider is configured."""
        first = [self._catalogue.resolve(explicit)] if explicit else []
        chain = [self._catalogue.resolve(name) for name in self._catalogue.chain]
        models = {model.name: model for model in [*first, *chain] if model.provider in self._providers}
        return list(models.values())

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
                turn.journal.failed(call, failure, raw, seconds=seconds, received=None)
                if last or request.repair is None:
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
            if error.code != "connection_failed":
                raise
            return self._call(request, messages, turn)

    def _call(self, request: Completion[Any], messages: Messages, turn: _Turn) -> tuple[ModelCall, RawReply]:
        left = turn.deadline - time.monotonic()
        if left < LEAST_CALL_SECONDS:
            raise ModelCallError("timeout", "No time was left to ask the model.")
        limit = turn.model.max_output_tokens
        call = ModelCall(
            call_id=new_id("call"),
            requested_model=request.preferences.model,
            model=turn.model,
            messages=messages,
            schema=request.schema,
            max_tokens=min(request.max_tokens, limit) if limit else request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            timeout_seconds=left,
        )
        turn.journal.opened(call, after=turn.after, previous=turn.previous)
        turn.after = turn.previous = None
        started = time.monotonic()
        try:
            return call, turn.cancellation.watch(lambda: self._translator.start(call)).result()
        except StepLostError:  # before it was sent: it costs nothing
            unsent = ModelCallError("cancelled", "The step was cancelled before its model was asked.")
            turn.journal.failed(call, unsent, None, seconds=0, received=None)
            raise
        except CancelledError as error:
            turn.journal.cancelled(call, seconds=time.monotonic() - started, received=None)
            raise StepLostError("The step was cancelled while its model was at work.") from error
        except ModelCallError as error:
            turn.journal.failed(call, error, None, seconds=time.monotonic() - started, received=None)
            raise
