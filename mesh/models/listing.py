"""The catalogue for people: every model, what it can do and costs, and how it does at present.

api -> here -> catalogue, performance, breakers.  For GET /stats/models; chooses nothing.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from mesh.models.catalogue import Catalogue, Listed, Model
from mesh.models.performance import Performance

_MILLION = 1_000_000


@dataclass(frozen=True)
class ModelView:
    """A model: prices in US dollars a million tokens (None: unknown), latency in seconds, `chain_position` from 1.

    `served_by` is the model's own name, or its successor's once it is retired.  `success_rate` and `average_latency`
    weigh recent calls most; None without any.
    """

    name: str
    aliases: tuple[str, ...]
    provider: str
    complexity_tier: str
    strengths: tuple[str, ...]
    context_window: int | None
    max_output_tokens: int | None
    capabilities: tuple[str, ...]
    input_usd_per_million_tokens: Decimal | None
    output_usd_per_million_tokens: Decimal | None
    chain_position: int | None
    configured: bool
    breaker: str
    success_rate: float | None
    average_latency: float | None
    retirement_date: date | None
    successor: str | None
    served_by: str


class Listing:
    """All models of a catalogue, as this process sees them: `providers` are those that it has access to.

    `breaker_states` answers the states of breakers by model; one that it does not name is closed.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Collection[str],
        performance: Performance,
        breaker_states: Callable[[], Mapping[str, str]],
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._performance = performance
        self._breaker_states = breaker_states

    def models(self) -> list[ModelView]:
        """Every model, in the order of the catalogue's files; without the database or Redis, what was last known."""
        self._performance.refresh()
        breakers = self._breaker_states()
        return [self._view(listed, breakers) for listed in self._catalogue.listed()]

    def _view(self, listed: Listed, breakers: Mapping[str, str]) -> ModelView:
        model, chain = listed.model, self._catalogue.chain
        record = self._performance.record(listed.served_by)
        prompt, completion = _prices(model)
        return ModelView(
            name=model.name,
            aliases=listed.aliases,
            provider=model.provider,
            complexity_tier=model.tier,
            strengths=model.strengths,
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            capabilities=_capabilities(model),
            input_usd_per_million_tokens=prompt,
            output_usd_per_million_tokens=completion,
            chain_position=chain.index(listed.served_by) + 1 if listed.served_by in chain else None,
            configured=self._catalogue.resolve(model.name).reachable(self._providers),
            breaker=breakers.get(listed.served_by, "closed"),
            success_rate=record.success_rate,
            average_latency=record.latency_seconds,
            retirement_date=model.retires_on,
            successor=listed.successor,
            served_by=listed.served_by,
        )


def _capabilities(model: Model) -> tuple[str, ...]:
    said = {
        "vision": model.vision,
        "function_calling": model.function_calling,
        "json_schema": model.response_schema,
        "prompt_caching": model.facts.get("supports_prompt_caching"),
        "reasoning": model.facts.get("supports_reasoning"),
    }
    return tuple(capability for capability, has in said.items() if has)


def _prices(model: Model) -> tuple[Decimal | None, Decimal | None]:
    if not model.priced:
        return None, None
    return (
        model.price_usd(prompt_tokens=_MILLION, completion_tokens=0),
        model.price_usd(prompt_tokens=0, completion_tokens=_MILLION),
    )
