"""Faults on demand: which call fails, how, and how often.

A fault comes from the header `X-Sandbox-Fault: kind[;argument]` of a request, else from the first rule that fires.
Rules come from a TOML or JSON file, or at run time over `/sandbox/faults`.
"""

import json
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from mesh.errors import ConfigurationError, InvalidInputError
from mesh.sandbox.exchange import Ask, Provider

HEADER = "X-Sandbox-Fault"

Stage = Literal["error", "connection", "delay", "content", "stream"]

# kind: (stage, HTTP status, what happens).  The argument of an error is Retry-After in seconds.
KINDS: dict[str, tuple[Stage, int, str]] = {
    "400": ("error", 400, "invalid request"),
    "401": ("error", 401, "the key is refused"),
    "403": ("error", 403, "the key may not use this model"),
    "404": ("error", 404, "no such model"),
    "408": ("error", 408, "request timeout"),
    "429": ("error", 429, "rate limit; with `429;2` the answer says Retry-After: 2"),
    "quota": ("error", 429, "the quota is used up (insufficient_quota)"),
    "context_length": ("error", 400, "the prompt is longer than the context window"),
    "500": ("error", 500, "internal error"),
    "503": ("error", 503, "unavailable"),
    "529": ("error", 529, "overloaded"),
    "reset": ("connection", 200, "the connection is reset (RST) before a byte is answered"),
    "refuse": ("connection", 200, "the same as reset"),
    "hang": ("delay", 200, "nothing is answered for an hour, or as many seconds as the argument says"),
    "slow": ("delay", 200, "the first byte comes 5 s later, or as many seconds as the argument says"),
    "slow_stream": ("stream", 200, "1 s between chunks, or as many seconds as the argument says"),
    "hang_stream": ("stream", 200, "half of the answer, then silence for an hour, or the argument's seconds"),
    "drop_stream": ("stream", 200, "half of the answer, then the connection closes without an end"),
    "truncate": ("stream", 200, "half of the answer, then a clean end without a finish event"),
    "malformed_body": ("content", 200, "a 200 whose body is not JSON, nor a stream"),
    "malformed_json": ("content", 200, "a proper answer whose text is JSON cut short"),
    "invalid_schema": ("content", 200, "a proper answer whose JSON does not fit the schema"),
    "content_block": ("content", 200, "the provider's filter blocks the answer"),
}
SECONDS = {"hang": 3600.0, "slow": 5.0, "slow_stream": 1.0, "hang_stream": 3600.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, `argument` in seconds where the kind takes any."""

    kind: str
    argument: float | None = None

    @property
    def stage(self) -> Stage:
        """Where it strikes."""
        return KINDS[self.kind][0]

    @property
    def status(self) -> int:
        """The HTTP status that it answers with."""
        return KINDS[self.kind][1]

    @property
    def seconds(self) -> float:
        """How long it delays."""
        return SECONDS.get(self.kind, 0.0) if self.argument is None else self.argument


def parse(text: str) -> Fault:
    """Read `kind[;argument]`.

    Raises:
        InvalidInputError: no such kind, or the argument is no number; names the kinds.
    """
    kind, _, argument = text.partition(";")
    if kind.strip() not in KINDS:
        raise InvalidInputError(f"There is no fault of this kind; there are: {', '.join(KINDS)}.")
    try:
        return Fault(kind.strip(), float(argument) if argument.strip() else None)
    except ValueError:
        raise InvalidInputError(f"The argument of {kind} must be a number of seconds, as in `{kind};2`.") from None


def _from_wire(value: object) -> object:
    if isinstance(value, Mapping):
        value = f"{value.get('kind', '')};{value.get('argument', '')}"
    if not isinstance(value, str | int):
        return value
    try:
        return parse(str(value))
    except InvalidInputError as error:
        raise ValueError(str(error)) from None


class Match(BaseModel):
    """Which calls a rule is for; what is absent matches all. `nth` counts the calls that match all the rest, from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider | None = None
    model: str = Field("", description="part of the model's name")
    header: str = Field("", description="`Name`, or `Name: part of the value`")
    prompt: str = Field("", description="part of the prompt, system text included")
    stream: bool | None = None
    nth: int | list[int] | None = None

    def fits(self, provider: Provider, ask: Ask, headers: Mapping[str, str]) -> bool:
        """Whether a call matches, `nth` aside."""
        name, _, value = self.header.partition(":")
        return (
            self.provider in (None, provider)
            and self.model in ask.model
            and self.stream in (None, ask.stream)
            and (not name or (name.strip() in headers and value.strip() in headers[name.strip()]))
            and (not self.prompt or any(self.prompt in text for _, text in ask.messages))
        )


class Rule(BaseModel):
    """A fault, for which calls, and how often: at most `times`, each with `probability`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Match = Match()
    fault: Annotated[Fault, BeforeValidator(_from_wire)]
    times: int | None = Field(None, ge=1)
    probability: float = Field(1.0, ge=0, le=1)


class Faults:
    """The rules in force, and how often each has matched and fired. Chance is seeded, so a run can be repeated."""

    def __init__(self, rules: Sequence[Rule] = (), *, seed: int = 0) -> None:
        self._seed = seed
        self.replace(rules)

    def replace(self, rules: Sequence[Rule]) -> None:
        """Put these rules in force, with fresh counts."""
        self._rules: list[Rule] = []
        self._matched: list[int] = []
        self._fired: list[int] = []
        self._chance = random.Random(self._seed)  # noqa: S311  # not for secrets, and repeatable on purpose
        self.add(rules)

    def add(self, rules: Sequence[Rule]) -> None:
        """Put more rules in force, after those that stand."""
        self._rules += rules
        self._matched += [0] * len(rules)
        self._fired += [0] * len(rules)

    def choose(self, provider: Provider, ask: Ask, headers: Mapping[str, str]) -> Fault | None:
        """The fault for this call, if any: the header's, else the first rule's that fires.

        Raises:
            InvalidInputError: the header names no fault.
        """
        if HEADER in headers:
            return parse(headers[HEADER])
        for at, rule in enumerate(self._rules):
            if rule.match.fits(provider, ask, headers) and self._fires(at, rule):
                return rule.fault
        return None

    def _fires(self, at: int, rule: Rule) -> bool:
        self._matched[at] += 1
        nth = rule.match.nth
        if nth is not None and self._matched[at] not in ([nth] if isinstance(nth, int) else nth):
            return False
        if rule.times is not None and self._fired[at] >= rule.times:
            return False
        if rule.probability < 1 and self._chance.random() >= rule.probability:
            return False
        self._fired[at] += 1
        return True

    def as_json(self) -> list[dict[str, Any]]:
        """The rules with their counts."""
        counts = zip(self._rules, self._matched, self._fired, strict=True)
        return [{**rule.model_dump(mode="json"), "matched": m, "fired": f} for rule, m, f in counts]


_RULES = TypeAdapter(list[Rule])


def rules(document: object) -> list[Rule]:
    """Read rules from a parsed file or request body: a list, or an object that holds it as `faults`.

    Raises:
        InvalidInputError: names each fault of the rules, and where it stands.
    """
    listed = document.get("faults") if isinstance(document, Mapping) else document
    try:
        return _RULES.validate_python(listed)
    except ValidationError as error:
        found = "; ".join(f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise InvalidInputError(f"The fault rules cannot be read. {found}") from None


def load(path: Path) -> list[Rule]:
    """Read a faults file, TOML by its suffix `.toml`, else JSON.

    Raises:
        ConfigurationError: says what is wrong with the file.
    """
    try:
        text = path.read_text("utf-8")
        return rules(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except (OSError, ValueError, InvalidInputError) as error:
        raise ConfigurationError(f"{path} cannot be used as a faults file: {error}") from error
