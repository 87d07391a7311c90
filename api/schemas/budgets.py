"""Budgets: what may be asked and what is answered."""

from typing import Literal

from pydantic import Field

from api.schemas.base import Answer, Asked, Instant, Usd
from api.schemas.base import Budget as Limit


class SetBudget(Asked):
    """PUT /budgets/{kind}/{id}."""

    limit_usd: Limit
    period: Literal["total", "day", "month"] = Field("total", description="days and months are those of UTC")


class Budget(Answer):
    """A limit, and how much of it is used, in US dollars."""

    limit_usd: Usd
    period: Literal["total", "day", "month"]
    spent_usd: Usd
    reserved_usd: Usd = Field(description="held by calls under way: their worst case")
    resets_at: Instant | None
