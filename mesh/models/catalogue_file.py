"""The form of a catalogue file: `catalogue.toml`, and the one that users name with MESH_MODELS_FILE."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mesh.errors import ConfigurationError

Count = Annotated[int, Field(ge=1)]
Price = Annotated[Decimal, Field(ge=0)]
Address = Annotated[str, StringConstraints(pattern="^https?://")]

_MILLION = 1_000_000


@dataclass(frozen=True)
class Limit:
    """How much may be asked of a provider or model, over all processes; None: as much as one likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class LimitEntry(BaseModel):
    """`[limits.<provider>]`, and the same fields in a model's entry."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrency: Count | None = None

    @property
    def limit(self) -> Limit | None:
        """The limit that is set, if any is."""
        limit = Limit(self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        return limit if limit != Limit() else None


class Entry(LimitEntry):
    """`[models.<name>]`; what `catalogue.toml` says of each field is the documentation."""

    litellm: str
    tier: Literal["LOW", "MEDIUM", "HIGH"] = "MEDIUM"
    strengths: list[str] = []
    aliases: list[str] = []
    successor: str | None = None
    api_base: Address | None = None
    context_window: Count | None = None
    max_output_tokens: Count | None = None
    vision: bool | None = None
    function_calling: bool | None = None
    input_usd_per_million_tokens: Price | None = None
    output_usd_per_million_tokens: Price | None = None

    @model_validator(mode="after")
    def _prices_come_in_pairs(self) -> "Entry":
        if (self.input_usd_per_million_tokens is None) != (self.output_usd_per_million_tokens is None):
            raise ValueError("input_usd_per_million_tokens and output_usd_per_million_tokens need each other")
        return self

    @property
    def priced(self) -> bool:
        """Whether it brings prices of its own."""
        return self.input_usd_per_million_tokens is not None

    def facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What the price map knows of the model (US dollars a token), overridden by what the entry says itself."""
        said: dict[str, Any] = {
            "max_input_tokens": self.context_window,
            "max_output_tokens": self.max_output_tokens,
            "supports_vision": self.vision,
            "supports_function_calling": self.function_calling,
        }
        prices = self.input_usd_per_million_tokens, self.output_usd_per_million_tokens
        return _overridden(known, said, *prices)


class EmbeddingEntry(LimitEntry):
    """`[embeddings.<name>]`; documented as `Entry` is."""

    litellm: Annotated[str, StringConstraints(pattern="^(openai|gemini)/.")]
    api_base: Address | None = None
    shortens: bool = False
    least_similarity: Annotated[float, Field(ge=0, lt=1)] = 0.25
    context_window: Count | None = None
    input_usd_per_million_tokens: Price | None = None

    @property
    def priced(self) -> bool:
        """Whether it brings a price of its own."""
        return self.input_usd_per_million_tokens is not None

    def facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """As `Entry.facts`."""
        said = {"max_input_tokens": self.context_window}
        return _overridden(known, said, self.input_usd_per_million_tokens, Decimal(0))


def _overridden(
    known: Mapping[str, Any], said: dict[str, Any], input_usd: Decimal | None, output_usd: Decimal | None
) -> dict[str, Any]:
    if input_usd is not None and output_usd is not None:
        # The price map's tariffs (cached, long prompts) belong to its prices.
        known = {name: fact for name, fact in known.items() if "_cost" not in name}
        said |= {"input_cost_per_token": input_usd / _MILLION, "output_cost_per_token": output_usd / _MILLION}
    return {**known, **{name: fact for name, fact in said.items() if fact is not None}}


class File(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid")

    chain: list[str] | None = None
    models: dict[str, Entry] = {}
    embeddings: dict[str, EmbeddingEntry] = {}
    limits: dict[str, LimitEntry] = {}


def read(path: Path) -> File:
    """The file at `path`.

    Raises:
        ConfigurationError: it cannot be read, or says what makes no sense; names each fault.
    """
    try:
        return File.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The model file {path} cannot be read: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"The model file {path} is not valid: {faults}") from error
