"""What the gateway and its translator say to each other, and what the gateway tells the ledger's keeper."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock
from typing import Any, Generic, Literal, Protocol, TypeVar

from mesh.errors import ModelCallError, StepLostError
from mesh.models.catalogue import Model

T = TypeVar("T")

# What a provider may have written, and counts, beyond what has arrived when a stream is cut off.
UNSEEN_TOKENS = 256

# More than any of the providers counts for one image, whatever its size.
IMAGE_TOKENS = 16_384

# Content is text, or a list of parts where a task's context brings images.
Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the provider counted them.

    Cached ones are part of the prompt, reasoning ones of the completion.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Preferences:
    """What its user wants of the model for a task: `model_selection` of the contract; `model` wins over all else."""

    model: str | None = None
    task_complexity: Literal["LOW", "MEDIUM", "HIGH"] | None = None
    requires_vision: bool = False
    requires_function_calling: bool = False
    cost_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Completion(Generic[T]):
    """What is wanted of the models: a reply that `parse` accepts.

    `schema` is a `json_schema` as OpenAI's `response_format` takes it; None asks for plain text.  `parse` raises
    `InvalidReplyError`, and `repair` then makes the messages that ask once more (None: an invalid reply is a failed
    call).  `on_text` has the reply streamed, and is given each piece, from another thread; what a
    model gave is void once the journal hears that another one was called.
    """

    messages: Messages
    schema: dict[str, Any] | None
    parse: Callable[[str], T]
    repair: Callable[[Messages, str, Sequence[str]], Messages] | None
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    preferences: Preferences = Preferences()
    agent_type: str | None = None
    budget_left_usd: Decimal | None = None
    on_text: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One request to one model: `call_id` is its ledger row and travels as the header `X-Mesh-Call`.

    `requested_model` is the name that the user gave, if any; `model` may be its successor, or a fallback.
    `selection` is the receipt: why this model.  With `on_text` the reply is streamed: each piece of text is handed over
    as it comes, on the loop's thread, which it must not keep.
    """

    call_id: str
    requested_model: str | None
    model: Model
    messages: Messages
    schema: dict[str, Any] | None
    max_tokens: int
    temperature: float | None
    top_p: float | None
    timeout_seconds: float
    selection: Mapping[str, Any] | None = None
    on_text: Callable[[str], None] | None = None

    @property
    def prompt_bytes(self) -> int:
        """The prompt's and the schema's size: no tokenizer makes more tokens of it than it has bytes."""
        return prompt_bytes(self.messages, self.schema)

    @property
    def worst_case_usd(self) -> Decimal:
        """What is reserved for it: a token for each byte of the prompt, and a full reply."""
        return self.model.worst_case_usd(prompt_bytes=self.prompt_bytes, max_tokens=self.max_tokens)

    def cut_off_usd(self, received: int | None) -> Decimal:
        """An upper bound of its cost when it was cut off after `received` bytes of text (None: not streamed).

        A reply that is not streamed may have been finished, and a model that thinks unseen may have done so.
        """
        if received is None or self.model.reasons_unseen:
            return self.worst_case_usd
        tokens = min(self.max_tokens, received + UNSEEN_TOKENS)
        return self.model.worst_case_usd(prompt_bytes=self.prompt_bytes, max_tokens=tokens)


def prompt_bytes(messages: Messages, schema: Mapping[str, Any] | None) -> int:
    """The size of what is sent to a model, in bytes of UTF-8; an image counts as `IMAGE_TOKENS`."""
    size = len(str(schema or "").encode())
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        size += sum(len(part["text"].encode()) if part["type"] == "text" else IMAGE_TOKENS for part in parts)
    return size


@dataclass(frozen=True, slots=True)
class RawReply:
    """A provider's answer to one call: text, usage and its exact cost (None: the model has no known price).

    `finish_reason` is `stop` or `length`.  `estimated`: the provider told no usage, so this one is an upper bound.
    An embedding model answers with `vectors`, one for each message, as it made them.
    """

    text: str
    usage: Usage
    cost_usd: Decimal | None
    finish_reason: str = "stop"
    estimated: bool = False
    vectors: Sequence[Sequence[float]] = ()


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """The chain's answer; the ledger row of `call_id` is still open, for the caller to settle with what it stores."""

    value: T
    call_id: str
    model: Model
    raw: RawReply
    latency_seconds: float


class Journal(Protocol):
    """Keeps the books of a step's calls: told before each call is made, and of each that did not bring the reply."""

    def opened(self, call: ModelCall, *, after: ModelCallError | None, previous: Model | None) -> None:
        """`call` is about to be made, `after` the failure of `previous`, if any.

        Raises:
            StepLostError: nobody waits for the reply any more; the call must not be made.
            BudgetExceededError: a budget has not so much left.
            BudgetBusyError: it may have, once other calls have ended.
        """

    def failed(
        self, call: ModelCall, error: ModelCallError, raw: RawReply | None, *, seconds: float, received: int | None
    ) -> None:
        """`call` failed, or brought an invalid reply (`raw`), after `seconds`.

        `received`: bytes of text that had come, of a call that is streamed.
        """

    def cancelled(self, call: ModelCall, *, seconds: float, received: int | None) -> None:
        """`call` was stopped by us after `seconds`; what the provider used is unknown."""


class Translator(Protocol):
    """Turns one `ModelCall` into one HTTP request to its provider."""

    def start(self, call: ModelCall) -> "Future[RawReply]":
        """Begin the call; cancelling the future closes the connection.

        The future's exception is a `ModelCallError`, whatever went wrong.
        """


class Cancellation:
    """The way to stop one step's work from another thread, between its calls and during them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cancelled = False
        self._running: Future[Any] | None = None

    def cancel(self) -> None:
        """Stop the present call, and let no further one begin."""
        with self._lock:
            self._cancelled = True
            running = self._running
        if running is not None:
            running.cancel()

    def watch(self, start: Callable[[], "Future[T]"]) -> "Future[T]":
        """Begin a call unless cancelled; from now on `cancel` stops it.

        Raises:
            StepLostError: cancelled already.
        """
        with self._lock:
            if self._cancelled:
                raise StepLostError("The step was cancelled.")
            self._running = future = start()
        return future
