"""The catalogue: every model that may be named, under its public name, and who serves a retired one.

Prices and limits are read from the price map that LiteLLM ships as a file, so that the API knows them without
importing LiteLLM (3 s, 170 MB).
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mesh.errors import ConfigurationError, InvalidInputError, Problem

# Token prices come in variants (`..._batches`, `..._flex`); these are never what an ordinary call costs.
_OTHER_TARIFFS = ("_batches", "_flex", "_priority", "_per_query")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    litellm: str
    tier: Literal["LOW", "MEDIUM", "HIGH"] = "MEDIUM"
    strengths: list[str] = []
    aliases: list[str] = []
    successor: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    chain: list[str] | None = None
    models: dict[str, _Entry] = {}


@dataclass(frozen=True)
class Model:
    """A model that can be called: public name, LiteLLM's id, provider, and what the price map says of it."""

    name: str
    litellm: str
    provider: str
    tier: str
    strengths: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def max_output_tokens(self) -> int | None:
        """The provider's limit for one reply, in tokens, where it is known."""
        return self.facts.get("max_output_tokens")

    @property
    def priced(self) -> bool:
        """Whether a call's cost can be known."""
        return "input_cost_per_token" in self.facts

    def worst_case_usd(self, *, prompt_bytes: int, max_tokens: int) -> Decimal:
        """An upper bound of one call's price in US dollars: a token for each byte of the prompt, and a full reply."""
        return _dearest(self.facts, "input_cost_per", "cache_creation_input_token_cost") * prompt_bytes + (
            _dearest(self.facts, "output_cost_per") * max_tokens
        )


def _dearest(facts: Mapping[str, Any], *prefixes: str) -> Decimal:
    prices = [
        Decimal(str(value))
        for key, value in facts.items()
        if key.startswith(prefixes) and "token" in key and not key.endswith(_OTHER_TARIFFS) and value is not None
    ]
    return max(prices, default=Decimal(0))


class Catalogue:
    """Names into models; the order of `chain` is the order of fallback."""

    def __init__(self, files: Sequence[_File], price_map: Mapping[str, Mapping[str, Any]]) -> None:
        self._entries: dict[str, _Entry] = {}
        chain: list[str] = []
        for file in files:
            self._entries |= file.models
            chain = file.chain or chain
        self._names = {alias: name for name, entry in self._entries.items() for alias in entry.aliases}
        self._names |= {name: name for name in self._entries}
        self._price_map = price_map
        self._check(chain)
        self.chain = tuple(dict.fromkeys(self.resolve(name).name for name in chain))

    def resolve(self, name: str) -> Model:
        """The model that serves `name`: itself, what it is an alias of, or a retired model's successor.

        Raises:
            KeyError: no such name; `require` is for names that users give.
        """
        known = self._names[name]
        entry = self._entries[known]
        facts = self._facts(entry)
        if not facts and entry.successor:
            return self.resolve(entry.successor)
        provider = entry.litellm.partition("/")[0]
        return Model(known, entry.litellm, provider, entry.tier, tuple(entry.strengths), facts)

    def require(self, name: str, pointer: str) -> Model:
        """As `resolve`, for a name from a request; `pointer` says where it stood.

        Raises:
            InvalidInputError: no such name; says which names are near.
        """
        if name in self._names:
            return self.resolve(name)
        near = get_close_matches(name.lower(), self._names, n=3, cutoff=0.5) or sorted(self._entries)[:5]
        detail = f"There is no such model; near names: {', '.join(near)}."
        raise InvalidInputError("The model is unknown.", [Problem(pointer, "unknown_model", detail)])

    def _facts(self, entry: _Entry) -> Mapping[str, Any]:
        return self._price_map.get(entry.litellm) or self._price_map.get(entry.litellm.partition("/")[2]) or {}

    def _check(self, chain: Sequence[str]) -> None:
        links = [*chain, *(entry.successor for entry in self._entries.values() if entry.successor)]
        unknown = sorted({name for name in links if name not in self._names})
        if unknown:
            raise ConfigurationError(f"The model catalogue names models that it does not define: {', '.join(unknown)}.")
        for name in self._entries:
            self._check_succession(name)

    def _check_succession(self, name: str) -> None:
        seen = {name}
        successor = self._entries[name].successor
        while successor:
            name = self._names[successor]
            if name in seen:
                raise ConfigurationError(f"The model catalogue's successors run in a circle at {name}.")
            seen.add(name)
            successor = self._entries[name].successor


def load(extension: Path | None = None) -> Catalogue:
    """The catalogue that ships with the mesh, extended by the file `extension`.

    Raises:
        ConfigurationError: the file cannot be read; says why.
    """
    paths = [Path(__file__).with_name("catalogue.toml"), *([extension] if extension else [])]
    return Catalogue([_read(path) for path in paths], _price_map())


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The model file {path} cannot be read: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"The model file {path} is not valid: {faults}") from error


def _price_map() -> dict[str, dict[str, Any]]:
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The package litellm is not installed; run `make setup`.")
    file = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    prices: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return prices
