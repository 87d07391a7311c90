"""What the models share: strictness, and the kinds of fields that occur everywhere."""

import re
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Generic, LiteralString, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, to_json

from api.strict_json import deeper_than
from mesh.clock import to_wire
from mesh.security.token import USER_ID

MAX_OBJECT_BYTES = 64 * 1024
MAX_OBJECT_DEPTH = 8

Item = TypeVar("Item")


class Asked(BaseModel):
    """A request: types as JSON has them, and no field that is not known."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Parameters(BaseModel):
    """A query string: text that reads as the type, and no parameter that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _like(pattern: str, code: str, message: LiteralString) -> BeforeValidator:
    """It must be text that matches: pydantic by itself reads 5.0, +5 and 1_0 as integers, and numbers as instants."""

    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise PydanticCustomError(code, message)
        return value

    return BeforeValidator(check)


# In query strings.
Digits = Annotated[int, _like(r"\d{1,20}", "int_parsing", "Input should be an integer, in digits")]
Decimals = Annotated[
    float, _like(r"-?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?", "float_parsing", "Input should be a number, as in JSON")
]


class Paging(Parameters):
    """Which part of a list."""

    limit: Digits = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=1000)


class Answer(BaseModel):
    """An answer, read from a view's attributes."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Page(Answer, Generic[Item]):
    """A part of a list, newest first; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Its name in the interface's document."""
        return f"{params[0].__name__}Page"


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant_out_of_range", "Input should be within the years 1 to 9999") from None


def _cut(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("1e-9"), ROUND_DOWN)


def _exactly(value: object) -> Decimal:
    """The decimal that the number reads as; not a string, which pydantic would take as well."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PydanticCustomError("money_type", "Input should be a number")
    return Decimal(str(value))


def _is_small(value: dict[str, Any]) -> dict[str, Any]:
    data = to_json(value)
    if len(data) > MAX_OBJECT_BYTES:
        raise PydanticCustomError("object_too_large", "Input should be at most 64 KiB of JSON")
    if deeper_than(data, MAX_OBJECT_DEPTH):
        raise PydanticCustomError("object_too_deep", "Input should be nested at most 8 levels deep")
    return value


# In requests.  Where something must be given, white space is not enough.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
Description = Annotated[str, StringConstraints(max_length=2_000)]
UserId = Annotated[str, StringConstraints(pattern=f"^{USER_ID}$")]
NetworkId = Annotated[str, StringConstraints(pattern=r"^network_[0-9a-z]{26}$")]
TaskId = Annotated[str, StringConstraints(pattern=r"^task_[0-9a-z]{26}$")]
GivenInstant = Annotated[
    AwareDatetime,
    Strict(False),  # below a function pydantic takes text for Python's, not for JSON's
    _like(
        r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
        "instant_format",
        "Input should read like 2026-12-31T23:59:59Z (RFC 3339)",
    ),
    AfterValidator(_in_utc),
]
Budget = Annotated[
    Decimal,
    BeforeValidator(_exactly),
    Field(ge=0, le=1_000_000_000, description="in US dollars; what lies beyond nine decimals is cut off"),
    AfterValidator(_cut),  # not refused: for most validators, 0.5 is no multiple of 1e-9
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1_000_000_000}),
]
JsonObject = Annotated[
    dict[str, Any],
    AfterValidator(_is_small),
    Field(description="at most 64 KiB of JSON, nested at most 8 levels deep"),
]
Share = Annotated[float, Field(ge=0, le=1)]

# A member that may be left out of a change, and then stays as it is; by a factory, so that no default is documented.
ABSENT: Any = Field(default_factory=lambda: None)

# In answers.
Instant = Annotated[
    datetime,
    PlainSerializer(to_wire, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
# Exact for the 15 digits that a double holds in decimal; the ledger behind it keeps every digit.
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float)]
