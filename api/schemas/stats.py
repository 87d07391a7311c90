"""Statistics: what may be asked and what is answered."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api.schemas.base import Answer, GivenInstant, NetworkId, Parameters, Usd, UserId
from mesh.costs.views import Query


class AskStatistics(Parameters):
    """GET /stats/cost and /stats/usage: of which calls, by when they ended; `user_id` is for administrators."""

    start: GivenInstant | None = Field(None, alias="from")
    end: GivenInstant | None = Field(None, alias="to")
    network_id: NetworkId | None = None
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    user_id: UserId | None = None
    interval: Literal["day"] | None = None

    def to_domain(self) -> Query:
        """The same for the service."""
        return Query(
            start=self.start,
            end=self.end,
            network_id=self.network_id,
            model=self.model,
            user_id=self.user_id,
            daily=self.interval == "day",
        )


class Cost(Answer):
    """Costs in US dollars; `per_network` has `none` for calls without a network."""

    total_cost: Usd
    per_model: dict[str, Usd]
    per_user: dict[str, Usd]
    per_network: dict[str, Usd]
    time_period: str


class DayCost(Answer):
    """A day (UTC)."""

    date: date
    total_cost: Usd


class CostByDay(Cost):
    """With an entry for each day of the period."""

    series: list[DayCost]


class Usage(Answer):
    """Calls of models, failed and cut off ones among `failed_calls`; latency in seconds, of successful calls.

    `api_calls` counts the requests to this interface by whole hours, whatever network or model was asked for.
    """

    total_calls: int
    successful_calls: int
    failed_calls: int
    per_model: dict[str, int]
    average_latency: dict[str, float]
    api_calls: dict[Literal["read", "write", "generate"], int]
    time_period: str


class DayUsage(Answer):
    """A day (UTC)."""

    date: date
    total_calls: int
    successful_calls: int
    failed_calls: int


class UsageByDay(Usage):
    """With an entry for each day of the period."""

    series: list[DayUsage]
