"""The one error tree: every error has a stable `code`; what it means in HTTP is decided in `api/errors.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal


class MeshError(Exception):
    """Base of all errors raised on purpose.

    `code` is stable and machine-readable; the message says what was wrong and what would be right, and never
    repeats secrets or the rejected text.
    """

    code = "internal_error"


class ConfigurationError(MeshError):
    """A setting is missing or wrong; the process cannot start."""

    code = "configuration_error"


@dataclass(frozen=True)
class Problem:
    """One fault of an input: where (JSON Pointer, RFC 6901), which, and what to do."""

    pointer: str
    code: str
    detail: str


class InvalidInputError(MeshError):
    """Well-formed, but not acceptable; `problems` names each fault."""

    code = "validation_failed"

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class InvalidCursorError(MeshError):
    """A pagination cursor that this service did not make, or made for another query."""

    code = "invalid_cursor"


class InvalidPeriodError(MeshError):
    """A period that ends before it begins, or is too long for how it is to be answered."""

    code = "invalid_period"


class UnauthenticatedError(MeshError):
    """No credentials, or credentials that do not hold."""

    code = "unauthenticated"


class ForbiddenError(MeshError):
    """The principal's role or scopes do not allow the operation."""

    code = "forbidden"


class NotFoundError(MeshError):
    """There is no such thing, or it is not the principal's."""

    code = "not_found"


class ConflictError(MeshError):
    """The request does not fit the present state."""

    code = "conflict"


class StaleVersionError(MeshError):
    """The thing is no longer as the caller knows it."""

    code = "precondition_failed"


class RequestInFlightError(ConflictError):
    """The same request is being worked on at this moment."""

    code = "request_in_flight"


class KeyReusedError(InvalidInputError):
    """The idempotency key came with another request before."""

    code = "idempotency_key_reused"


class TooManyError(MeshError):
    """More than is allowed at once; trying again after `retry_after_seconds` may work."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(MeshError):
    """A needed part (such as the database) does not answer; trying again later may work."""

    code = "unavailable"


class ContentionError(MeshError):
    """The transaction clashed with another one and was undone; trying again at once may work."""

    code = "unavailable"


class StepLostError(MeshError):
    """The step is no longer this attempt's: it was cancelled, timed out, or given to another worker."""

    code = "step_lost"


class AgentRemovedError(MeshError):
    """The agent that a step was for has left its network."""

    code = "agent_removed"


class DeadlineExceededError(MeshError):
    """The time that the caller gave is over."""

    code = "timeout"


class BudgetExceededError(MeshError):
    """With what is spent already, the call could pass a limit, in US dollars.

    `needed_usd` is what it may take at worst, `left_usd` what is not spent of the tightest budget.
    """

    code = "budget_exceeded"

    def __init__(self, message: str, *, needed_usd: Decimal, left_usd: Decimal) -> None:
        super().__init__(message)
        self.needed_usd = needed_usd
        self.left_usd = left_usd


class BudgetBusyError(MeshError):
    """Only what other calls have reserved stands in the way: once they have settled, there may be enough.

    `not_begun`: the task has to wait for others before its first call.
    """

    code = "budget_busy"

    def __init__(self, message: str, *, not_begun: bool = False) -> None:
        super().__init__(message)
        self.not_begun = not_begun


class ModelsBusyError(MeshError):
    """No model may be asked now: rate limits are used up, or breakers open; `seconds` until one may be."""

    code = "models_busy"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


# Of one reply: enough to repair it, and the prompt that asks for it stays short.
MAX_REPLY_ERRORS = 20


class InvalidReplyError(MeshError):
    """A model's reply breaks its schema or rules; `errors` says where and how, for a prompt that asks again."""

    code = "invalid_reply"

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__(f"The model's reply is invalid: {'; '.join(errors[:3])}")
        self.errors = tuple(errors[:MAX_REPLY_ERRORS])


class ModelCallError(MeshError):
    """One call of a model failed.

    `code` says how; `status` is the provider's HTTP status if it gave one; `retry_after_seconds` what it asked for;
    `may_cost` is False when the provider certainly did not work on it: it refused, or was never reached.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        may_cost: bool = False,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.may_cost = may_cost


class AllModelsFailedError(MeshError):
    """Every model of the chain was tried; `causes` holds one failure for each, by model."""

    code = "all_models_failed"

    def __init__(self, causes: Sequence[tuple[str, ModelCallError]]) -> None:
        tried = "; ".join(f"{model}: {cause.code} ({cause})" for model, cause in causes)
        super().__init__(f"No model gave a valid reply. {tried}")
        self.causes = tuple(causes)
