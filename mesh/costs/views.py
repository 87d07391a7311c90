"""Statistics: what is asked, and what is answered."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

# In place of a network's id: direct generation may be without one.
NO_NETWORK = "none"


@dataclass(frozen=True, slots=True)
class Query:
    """Which calls: those that ended from `start` on and before `end`, of all or of one network, model, user."""

    start: datetime | None = None
    end: datetime | None = None
    network_id: str | None = None
    model: str | None = None
    user_id: str | None = None
    daily: bool = False


@dataclass(frozen=True, slots=True)
class DayCost:
    """What the calls of a day (UTC) cost, in US dollars."""

    date: date
    total_cost: Decimal


@dataclass(frozen=True, slots=True)
class CostView:
    """Costs in US dollars; whoever and whatever had a call has an entry, were it 0.  No `series` unless asked for."""

    total_cost: Decimal
    per_model: dict[str, Decimal]
    per_user: dict[str, Decimal]
    per_network: dict[str, Decimal]
    time_period: str
    series: list[DayCost]


@dataclass(frozen=True, slots=True)
class DayUsage:
    """How the calls of a day (UTC) went."""

    date: date
    total_calls: int
    successful_calls: int
    failed_calls: int


@dataclass(frozen=True, slots=True)
class UsageView:
    """Calls of models; a call that was cut off counts as failed.  Latency in seconds, the mean of successful calls.

    `api_calls` are the requests of the same users by route class, by whole hours, whatever network or model.
    """

    total_calls: int
    successful_calls: int
    failed_calls: int
    per_model: dict[str, int]
    average_latency: dict[str, float]
    api_calls: dict[str, int]
    time_period: str
    series: list[DayUsage]
