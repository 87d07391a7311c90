"""Models: what is answered about each model of the catalogue."""

from datetime import date
from typing import Literal

from pydantic import Field

from api.schemas.base import Answer, Usd


class Model(Answer):
    """A model.  Prices are plain ones; null where nobody knows them."""

    name: str
    aliases: list[str]
    provider: str
    complexity_tier: Literal["LOW", "MEDIUM", "HIGH"]
    strengths: list[str]
    context_window: int | None = Field(description="The longest prompt, in tokens")
    max_output_tokens: int | None
    capabilities: list[Literal["vision", "function_calling", "json_schema", "prompt_caching", "reasoning"]]
    input_usd_per_million_tokens: Usd | None
    output_usd_per_million_tokens: Usd | None
    chain_position: int | None = Field(description="Place in the order of fallback, from 1; null outside")
    configured: bool = Field(description="Whether its provider, or the successor's, can be reached")
    breaker: Literal["closed", "open", "half-open"]
    success_rate: float | None = Field(description="The share of calls that brought a reply, recent ones most")
    average_latency: float | None = Field(description="Seconds, of calls that brought a reply, recent ones most")
    retirement_date: date | None
    successor: str | None
    served_by: str = Field(description="The model that answers to the name: itself, or a successor once it is retired")


class Models(Answer):
    """Every model of the catalogue, retired ones too."""

    models: list[Model]
