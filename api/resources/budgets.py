"""Budgets: GET, PUT, DELETE /budgets/{users|networks|keys|tasks}/{id}."""

from flask import Blueprint, Response

from api.answers import answer
from api.context import mesh, principal
from api.request import body, no_parameters
from api.schemas.budgets import Budget, SetBudget
from mesh.costs.budgets import Kind

blueprint = Blueprint("budgets", __name__)

_PATH = "/budgets/<any(users, networks, keys, tasks):kinds>/<subject_id>"


@blueprint.get(_PATH)
def get(kinds: str, subject_id: str) -> Response:
    """What is spent and reserved of a limit."""
    no_parameters()
    return answer(Budget, mesh().budgets.get(principal(), _kind(kinds), subject_id))


@blueprint.put(_PATH)
def put(kinds: str, subject_id: str) -> Response:
    """Set or change a limit."""
    no_parameters()
    asked = body(SetBudget)
    view = mesh().budgets.put(principal(), _kind(kinds), subject_id, limit_usd=asked.limit_usd, period=asked.period)
    return answer(Budget, view)


@blueprint.delete(_PATH)
def remove(kinds: str, subject_id: str) -> Response:
    """Lift a limit."""
    no_parameters()
    mesh().budgets.remove(principal(), _kind(kinds), subject_id)
    return Response(status=204)


def _kind(kinds: str) -> Kind:
    return Kind(kinds.removesuffix("s"))
