"""The catalogue: every model that may be named, under its public name, and who serves a retired one.

Prices and limits are read from the price map that LiteLLM ships as a file, so that the API knows them without
importing LiteLLM (3 s, 170 MB).
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mesh import clock
from mesh.config import WITHOUT_PROVIDER
from mesh.errors import ConfigurationError, InvalidInputError, Problem
from mesh.models.catalogue_file import EmbeddingEntry, Entry, File, Limit, read

__all__ = ["Catalogue", "EmbeddingModel", "Limit", "Listed", "Model", "load"]

# Token prices come in variants (`..._batches`, `..._flex`); these are never what an ordinary call costs.
_OTHER_TARIFFS = ("_batches", "_flex", "_priority", "_per_query")


@dataclass(frozen=True)
class Model:
    """A model that can be called: public name, LiteLLM's id, provider, and what the price map and its entry say.

    With `api_base` it is served from an address of its own.  `own_prices`: they are its entry's, which LiteLLM does
    not know.
    """

    name: str
    litellm: str
    provider: str
    tier: str
    strengths: tuple[str, ...]
    facts: Mapping[str, Any]
    api_base: str | None = None
    own_prices: bool = False

    @property
    def context_window(self) -> int | None:
        """The longest prompt, in tokens, where it is known."""
        return self.facts.get("max_input_tokens")

    @property
    def max_output_tokens(self) -> int | None:
        """The provider's limit for one reply, in tokens, where it is known."""
        return self.facts.get("max_output_tokens")

    @property
    def vision(self) -> bool:
        """Whether it is known to take images."""
        return bool(self.facts.get("supports_vision"))

    @property
    def function_calling(self) -> bool:
        """Whether it is known to call functions."""
        return bool(self.facts.get("supports_function_calling"))

    @property
    def response_schema(self) -> bool | None:
        """Whether it can be held to a JSON schema; None: nobody says."""
        return self.facts.get("supports_response_schema")

    @property
    def retires_on(self) -> date | None:
        """When its provider withdraws it, where that is announced."""
        announced = self.facts.get("deprecation_date")
        return date.fromisoformat(announced) if announced else None

    @property
    def priced(self) -> bool:
        """Whether a call's cost can be known."""
        return "input_cost_per_token" in self.facts

    @property
    def reasons_unseen(self) -> bool:
        """Whether it may write tokens, and charge them, that nobody is shown; most Claudes do so only when asked to."""
        if self.provider == "anthropic":
            return bool(self.facts.get("thinking_always_on"))
        return bool(self.facts.get("supports_reasoning"))

    def reachable(self, providers: Collection[str]) -> bool:
        """Whether it can be called where `providers` are configured."""
        return self.api_base is not None or self.provider in providers

    def price_usd(self, *, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What so many tokens cost at the plain tariff, in US dollars: exact for `own_prices`, else an estimate."""
        prompt, completion = self._plain_tariff
        return prompt * prompt_tokens + completion * completion_tokens

    def worst_case_usd(self, *, prompt_bytes: int, max_tokens: int) -> Decimal:
        """An upper bound of one call's price in US dollars: a token for each byte of the prompt, and a full reply."""
        prompt, completion = self._dearest_tariff
        return prompt * prompt_bytes + completion * max_tokens

    @cached_property
    def _plain_tariff(self) -> tuple[Decimal, Decimal]:
        prompt, completion = (self.facts.get(f"{kind}_cost_per_token") or 0 for kind in ("input", "output"))
        return Decimal(str(prompt)), Decimal(str(completion))

    @cached_property
    def _dearest_tariff(self) -> tuple[Decimal, Decimal]:
        prompt = _dearest(self.facts, "input_cost_per", "cache_creation_input_token_cost")
        return prompt, _dearest(self.facts, "output_cost_per")


def _dearest(facts: Mapping[str, Any], *prefixes: str) -> Decimal:
    prices = [
        Decimal(str(value))
        for key, value in facts.items()
        if key.startswith(prefixes) and "token" in key and not key.endswith(_OTHER_TARIFFS) and value is not None
    ]
    return max(prices, default=Decimal(0))


@dataclass(frozen=True)
class EmbeddingModel(Model):
    """A model that makes vectors of texts, not replies; it is in no chain, and serves no other name.

    `shortens`: it makes them as short as it is asked to.  Texts whose cosine is below `least_similarity` have nothing
    to do with each other.
    """

    shortens: bool = False
    least_similarity: float = 0.25

    def cut(self, text: str) -> str:
        """As much of `text` as it certainly reads: no tokenizer makes more tokens of it than it has bytes."""
        return text.encode()[: self.context_window].decode(errors="ignore")


@dataclass(frozen=True)
class Listed:
    """A row of the catalogue; `served_by` is another's name once the model itself is retired."""

    model: Model
    aliases: tuple[str, ...]
    successor: str | None
    served_by: str


class Catalogue:
    """Names into models; the order of `chain` is the order of fallback."""

    def __init__(
        self,
        files: Sequence[File],
        price_map: Mapping[str, Mapping[str, Any]],
        today: Callable[[], date] = lambda: clock.now().date(),
    ) -> None:
        self._today = today
        self._entries: dict[str, Entry] = {}
        self._embeddings: dict[str, EmbeddingEntry] = {}
        self._limits: dict[str, Limit | None] = {}
        chain: list[str] = []
        for file in files:
            self._entries |= file.models
            self._embeddings |= file.embeddings
            self._limits |= {provider: entry.limit for provider, entry in file.limits.items()}
            chain = file.chain or chain
        self._names = {alias: name for name, entry in self._entries.items() for alias in entry.aliases}
        self._names |= {name: name for name in self._entries}
        self._models = {name: _model(name, entry, price_map) for name, entry in self._entries.items()}
        self._price_map = price_map
        self._check(chain)
        self._chain = tuple(chain)

    @property
    def chain(self) -> tuple[str, ...]:
        """The models that are asked one after another, each through its successor once it is retired."""
        return tuple(dict.fromkeys(self.resolve(name).name for name in self._chain))

    def __iter__(self) -> Iterator[Model]:
        """The models that serve a name, in the order of the files."""
        served = dict.fromkeys(self.resolve(name).name for name in self._entries)
        return (self._models[name] for name in served)

    def resolve(self, name: str) -> Model:
        """The model that serves `name`: itself, what it is an alias of, or a retired model's successor.

        Raises:
            KeyError: no such name; `require` is for names that users give.
        """
        known = self._names[name]
        successor = self._entries[known].successor
        if successor and self._retired(self._models[known]):
            return self.resolve(successor)
        return self._models[known]

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

    def embedding(self, name: str) -> EmbeddingModel:
        """The embedding model `name`.

        Raises:
            ConfigurationError: no such name; says which names there are.
        """
        if name not in self._embeddings:
            names = ", ".join([*WITHOUT_PROVIDER, *self._embeddings])
            near = get_close_matches(name.lower(), self._embeddings, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"MESH_EMBEDDINGS={name} is none of {names}.{hint}")
        entry = self._embeddings[name]
        return EmbeddingModel(
            **_common(name, entry, self._price_map),
            tier="",
            strengths=(),
            shortens=entry.shortens,
            least_similarity=entry.least_similarity,
        )

    def limits_of(self, model: Model) -> tuple[Limit | None, Limit | None]:
        """The limits of the model's provider and of the model itself."""
        entry = self._entries.get(model.name) or self._embeddings[model.name]
        return self._limits.get(model.provider), entry.limit

    def listed(self) -> list[Listed]:
        """Every row, retired ones too, in the order of the files."""
        return [
            Listed(self._models[name], tuple(entry.aliases), entry.successor, self.resolve(name).name)
            for name, entry in self._entries.items()
        ]

    def _retired(self, model: Model) -> bool:
        """Its provider has withdrawn it: the price map has it no more, or its announced day has come."""
        unknown = not model.facts and not model.api_base
        return unknown or (model.retires_on is not None and model.retires_on <= self._today())

    def _check(self, chain: Sequence[str]) -> None:
        links = [*chain, *(entry.successor for entry in self._entries.values() if entry.successor)]
        unknown = sorted({name for name in links if name not in self._names})
        if unknown:
            raise ConfigurationError(f"The model catalogue names models that it does not define: {', '.join(unknown)}.")
        # Breakers and limits go by the name.
        if twice := sorted(self._names.keys() & self._embeddings):
            raise ConfigurationError(f"The model catalogue has models and embeddings of one name: {', '.join(twice)}.")
        if taken := sorted(self._embeddings.keys() & set(WITHOUT_PROVIDER)):
            names = ", ".join(taken)
            raise ConfigurationError(f"MESH_EMBEDDINGS means something else by {names}; give the models other names.")
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


def _model(name: str, entry: Entry, price_map: Mapping[str, Mapping[str, Any]]) -> Model:
    return Model(**_common(name, entry, price_map), tier=entry.tier, strengths=tuple(entry.strengths))


def _common(name: str, entry: Entry | EmbeddingEntry, price_map: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    provider, _, bare = entry.litellm.partition("/")
    named = price_map.get(bare, {})
    # A bare id is that of one provider; others may serve a model of the same name at other prices.
    facts = entry.facts(price_map.get(entry.litellm) or (named if named.get("litellm_provider") == provider else {}))
    own = {"api_base": entry.api_base, "own_prices": entry.priced}
    return {"name": name, "litellm": entry.litellm, "provider": provider, "facts": facts, **own}


def load(extension: Path | None = None) -> Catalogue:
    """The catalogue that ships with the mesh, extended by the file `extension`.

    Raises:
        ConfigurationError: the file cannot be read; says why.
    """
    paths = [Path(__file__).with_name("catalogue.toml"), *([extension] if extension else [])]
    return Catalogue([read(path) for path in paths], _price_map())


def _price_map() -> dict[str, dict[str, Any]]:
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The package litellm is not installed; run `make setup`.")
    file = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    prices: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return prices
