"""Statistics: GET /stats/cost, /stats/usage, /stats/models."""

from flask import Blueprint, Response

from api.answers import answer
from api.context import mesh, principal
from api.request import no_parameters, parameters
from api.schemas.models import Models
from api.schemas.stats import AskStatistics, Cost, CostByDay, Usage, UsageByDay

blueprint = Blueprint("stats", __name__)


@blueprint.get("/stats/cost")
def cost() -> Response:
    """What calls of models have cost, by model, user and network."""
    query = parameters(AskStatistics).to_domain()
    return answer(CostByDay if query.daily else Cost, mesh().statistics.cost(principal(), query))


@blueprint.get("/stats/usage")
def usage() -> Response:
    """How many calls of models there were and how they went, and how many requests to this interface."""
    query = parameters(AskStatistics).to_domain()
    return answer(UsageByDay if query.daily else Usage, mesh().statistics.usage(principal(), query))


@blueprint.get("/stats/models")
def models() -> Response:
    """Every model that may be named, what it can do and costs, and how it does at present."""
    no_parameters()
    return answer(Models, {"models": mesh().models.models()})
