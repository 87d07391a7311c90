"""Selection: which models may do a job, in which order they are asked, and why.

gateway -> here.  Pure: no clock, no I/O, no chance.  Models that cannot do the job are left out; then the chain stands
in its order, unless a wish (complexity, cost) asks for the best of all models by score.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from math import ceil, log10
from typing import Any, Protocol

from mesh.models.calls import Preferences
from mesh.models.catalogue import Catalogue, Model

# Measured with the tokenizer that LiteLLM brings (cl100k_base): English 3.6, German 3.7, JSON 3.3, Python 4.4, Chinese
# 2.9 bytes a token.  Taking a prompt for a little longer than it is costs less than a call that cannot succeed.
BYTES_PER_TOKEN = 3

# A model that lately failed more often than not costs more time than the next one: it goes to the end of the chain.
POOR_SUCCESS_RATE = 0.5

# What is cheaper than this (US dollars) is as good as free: a thousand such calls cost a tenth of a cent.
FREE_USD = 1e-6

# A reply that takes so long scores half of one that takes no time: people begin to look away.
PATIENCE_SECONDS = 10.0

MOST_SHOWN = 5


class Rejection(StrEnum):
    """Why a model cannot do a job; each is the first that applies, in this order."""

    UNKNOWN = "unknown_model"
    NOT_CONFIGURED = "not_configured"
    NO_VISION = "no_vision"
    NO_FUNCTION_CALLING = "no_function_calling"
    NO_SCHEMA = "no_json_schema"
    CONTEXT_TOO_SMALL = "context_too_small"
    UNPRICED = "no_known_price"
    OVER_BUDGET = "over_budget"
    BREAKER_OPEN = "breaker_open"


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part of a score counts; a score is their mean, from 0 to 1."""

    fit: float
    price: float
    success: float
    speed: float
    chain: float = 1.0  # of equals, the one that the operator put first
    budget: float = 2.0  # what would take most of a scarce budget waits for a cheaper one's failure


# A simple task is done by any model: price and speed tell.  A hard one is worth its price: the tier does.  A failed
# call costs its price and its time, so success counts throughout.
WEIGHTS = {
    "LOW": Weights(fit=3, price=3, success=3, speed=2),
    "MEDIUM": Weights(fit=4, price=2, success=4, speed=1),
    "HIGH": Weights(fit=6, price=1, success=4, speed=0.5),
}

# `cost_sensitive` multiplies the price's weight: among models of one tier it then decides, between tiers it may.
THRIFT = 4

# How well a tier (inner) suits a complexity (outer): a stronger model is only wasteful, a weaker one may fail.
FIT = {
    "LOW": {"LOW": 1.0, "MEDIUM": 0.8, "HIGH": 0.5},
    "MEDIUM": {"LOW": 0.4, "MEDIUM": 1.0, "HIGH": 0.9},
    "HIGH": {"LOW": 0.0, "MEDIUM": 0.4, "HIGH": 1.0},
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is to be expected of a model: the share of calls that succeed, and the mean time of those that do."""

    success_rate: float
    latency_seconds: float


class Performance(Protocol):
    """What calls came to so far, from memory."""

    def expect(self, model: Model, agent_type: str | None) -> Expectation:
        """What `model` may be expected to do for such an agent."""

    def success_lately(self, model: Model, agent_type: str | None) -> float:
        """The share of its calls that succeeded in the last minutes, from 0 to 1.

        Nothing older counts: nobody asks a model at the chain's end, so nothing else would bring it back.
        """


@dataclass(frozen=True, slots=True)
class Wish:
    """A job for a model: what its user wants, and what it takes.

    `prompt_bytes` in UTF-8, schema included; `max_tokens` of the reply.  `budget_left_usd`: the tightest budget's; None
    without any.
    """

    preferences: Preferences
    agent_type: str | None
    prompt_bytes: int
    max_tokens: int
    needs_schema: bool
    has_images: bool
    budget_left_usd: Decimal | None

    @property
    def prompt_tokens(self) -> int:
        """An estimate, see `BYTES_PER_TOKEN`."""
        return ceil(self.prompt_bytes / BYTES_PER_TOKEN)

    def reply_tokens(self, model: Model) -> int:
        """The longest reply, as the gateway will ask `model` for it."""
        return min(self.max_tokens, model.max_output_tokens or self.max_tokens)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can do the job; `parts` are what its `score` was made of, each from 0 (bad) to 1."""

    model: Model
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """The models that can do the job, best first, and why the others cannot."""

    candidates: tuple[Candidate, ...]
    rejected: Mapping[str, Rejection]
    reason: str
    requested: str | None = None

    def receipt(self, model: Model) -> dict[str, Any]:
        """Why `model` is asked, as JSON; it is stored with the call."""
        names = [candidate.model.name for candidate in self.candidates]
        earlier = names[: names.index(model.name)]
        shown = [
            {"model": c.model.name, "score": c.score, "parts": dict(c.parts)} for c in self.candidates[:MOST_SHOWN]
        ]
        receipt: dict[str, Any] = {
            "chosen": model.name,
            "reason": f"Next after {', '.join(earlier)}." if earlier else self.reason,
            "candidates": shown,
            "rejected": {name: str(rejection) for name, rejection in self.rejected.items()},
        }
        if self.requested not in (None, model.name):
            receipt["requested_model"] = self.requested
        return receipt


class Selector:
    """Chooses among the models of a catalogue whose provider is one of `providers`.

    `closed` says of a model's name whether its breaker lets it be asked.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Collection[str],
        performance: Performance,
        closed: Callable[[str], bool],
    ) -> None:
        self._catalogue = catalogue
        self._providers = frozenset(providers)
        self._performance = performance
        self._closed = closed

    def choose(self, wish: Wish) -> Choice:
        """The models for `wish`, best first; none at all when none can do it."""
        name = wish.preferences.model
        rejected: dict[str, Rejection] = {}
        ranked, reason = self._ranked(wish, rejected)
        if name is None:
            return Choice(tuple(ranked), rejected, reason)
        if named := self._named(name, wish, rejected):
            others = [candidate for candidate in ranked if candidate.model is not named]
            [first] = [one for one in ranked if one.model is named] or [Candidate(named, 0.0, {})]
            return Choice((first, *others), rejected, "Asked for by name.", name)
        return Choice(tuple(ranked), rejected, f"{name} cannot. {reason}", name)

    def least_usd(self, wish: Wish, choice: Choice) -> Decimal | None:
        """What a budget has to have left, in US dollars, for one that was only too dear; None: there was none."""
        dear = [self._catalogue.resolve(name) for name, why in choice.rejected.items() if why is Rejection.OVER_BUDGET]
        return min((_worst_usd(model, wish) for model in dear), default=None)

    def _ranked(self, wish: Wish, rejected: dict[str, Rejection]) -> tuple[list[Candidate], str]:
        """The models as if none were asked for by name, and why the first of them is the first."""
        asked = wish.preferences
        if asked.task_complexity is not None or asked.cost_sensitive:
            ranked = self._by_score(self._able(self._catalogue, wish, rejected), wish)
            return ranked, f"Best score{_for(asked)}." if ranked else "No model can."
        chain = [self._catalogue.resolve(name) for name in self._catalogue.chain]
        if ranked := self._by_chain(self._able(chain, wish, rejected), wish):
            usual = ranked[0].model is chain[0]
            return ranked, "First of the chain." if usual else "First of the chain that can be relied on."
        ranked = self._by_score(self._able(self._catalogue, wish, rejected), wish)
        return ranked, "None of the chain can; best score of the others." if ranked else "No model can."

    def _named(self, name: str, wish: Wish, rejected: dict[str, Rejection]) -> Model | None:
        """The model that was asked for by name, if it can do the job."""
        try:
            model = self._catalogue.resolve(name)
        except KeyError:  # it was there when the name was stored
            rejected[name] = Rejection.UNKNOWN
            return None
        return next(iter(self._able([model], wish, rejected)), None)

    def _able(self, models: Iterable[Model], wish: Wish, rejected: dict[str, Rejection]) -> list[Model]:
        """Those of `models` that can do the job; the others go to `rejected`."""
        able = []
        for model in models:
            if why := self._rejection(model, wish):
                rejected[model.name] = why
            else:
                able.append(model)
        return able

    def _rejection(self, model: Model, wish: Wish) -> Rejection | None:
        asked, left = wish.preferences, wish.budget_left_usd
        reply_tokens = wish.reply_tokens(model)
        window = model.context_window
        reasons = {
            Rejection.NOT_CONFIGURED: not model.reachable(self._providers),
            Rejection.NO_VISION: (asked.requires_vision or wish.has_images) and not model.vision,
            Rejection.NO_FUNCTION_CALLING: asked.requires_function_calling and not model.function_calling,
            Rejection.NO_SCHEMA: wish.needs_schema and model.response_schema is False,
            Rejection.CONTEXT_TOO_SMALL: window is not None and wish.prompt_tokens + reply_tokens > window,
            Rejection.UNPRICED: left is not None and not model.priced,
            Rejection.OVER_BUDGET: left is not None and _worst_usd(model, wish) > left,
            Rejection.BREAKER_OPEN: not self._closed(model.name),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _place(self, model: Model) -> float:
        """1 for the first of the chain, less for each further one, 0 outside."""
        chain = self._catalogue.chain
        return 1 - chain.index(model.name) / len(chain) if model.name in chain else 0.0

    def _by_chain(self, models: Sequence[Model], wish: Wish) -> list[Candidate]:
        """In the chain's order, but those that clearly fail behind the others."""
        ranked = []
        for model in models:
            parts = {"chain": round(self._place(model), 4)}
            if (rate := self._performance.success_lately(model, wish.agent_type)) < POOR_SUCCESS_RATE:
                parts["success"] = round(rate - 1, 4)
            ranked.append(Candidate(model, round(sum(parts.values()), 4), parts))
        return sorted(ranked, key=lambda candidate: "success" in candidate.parts)

    def _by_score(self, models: Sequence[Model], wish: Wish) -> list[Candidate]:
        prices = {model.name: _price(model, wish) for model in models}
        cheapest = min((price for price in prices.values() if price is not None), default=FREE_USD)
        ranked = [self._scored(model, wish, prices[model.name], cheapest) for model in models]
        return sorted(ranked, key=lambda one: (-one.score, -self._place(one.model), one.model.name))

    def _scored(self, model: Model, wish: Wish, price: float | None, cheapest: float) -> Candidate:
        asked = wish.preferences
        complexity = asked.task_complexity or "MEDIUM"
        expected = self._performance.expect(model, wish.agent_type)
        parts = {
            "fit": FIT[complexity][model.tier],
            # Ten times the cheapest one's price scores a half, a hundred times nothing; an unknown one is in between.
            "price": 0.5 if price is None else max(0.0, 1 - log10(price / cheapest) / 2),
            "success": expected.success_rate,
            "speed": PATIENCE_SECONDS / (PATIENCE_SECONDS + expected.latency_seconds),
            "chain": self._place(model),
            "budget": _budget_kept(model, wish),
        }
        weights = asdict(WEIGHTS[complexity])
        if asked.cost_sensitive:
            weights["price"] *= THRIFT
        score = sum(weights[part] * value for part, value in parts.items()) / sum(weights.values())
        return Candidate(model, round(score, 4), {part: round(value, 4) for part, value in parts.items()})


def _price(model: Model, wish: Wish) -> float | None:
    """What the call may cost, with a full reply; None: nobody knows."""
    if not model.priced:
        return None
    price = model.price_usd(prompt_tokens=wish.prompt_tokens, completion_tokens=wish.reply_tokens(model))
    return max(float(price), FREE_USD)


def _budget_kept(model: Model, wish: Wish) -> float:
    """The share of the budget that is left after the worst case."""
    if not wish.budget_left_usd:
        return 1.0
    return 1 - float(_worst_usd(model, wish) / wish.budget_left_usd)


def _worst_usd(model: Model, wish: Wish) -> Decimal:
    return model.worst_case_usd(prompt_bytes=wish.prompt_bytes, max_tokens=wish.reply_tokens(model))


def _for(asked: Preferences) -> str:
    complexity = f" for complexity {asked.task_complexity}" if asked.task_complexity else ""
    return f"{complexity}{' where cost matters' if asked.cost_sensitive else ''}"
