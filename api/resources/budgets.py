"""Budgets: GET, PUT, DELETE /budgets/{users|networks|keys|tasks}/{id}."""

import re

from flask import Blueprint, Response

from api.answers import answer
from api.context import mesh, principal
from api.request import body, no_parameters
from api.schemas.budgets import Budget, SetBudget
from mesh.costs.budgets import Kind
from mesh.errors import NotFoundError
from mesh.security.token import USER_ID

blueprint = Blueprint("budgets", __name__)

_PATH = "/budgets/<any(users, networks, keys, tasks):kinds>/<subject>"


@blueprint.get(_PATH)
def get(kinds: str, subject: str) -> Response:
    """What is spent and reserved of a limit."""
    no_parameters()
    return answer(Budget, mesh().budgets.get(principal(), *_named(kinds, subject)))


@blueprint.put(_PATH)
def put(kinds: str, subject: str) -> Response:
    """Set or change a limit."""
    no_parameters()
    asked = body(SetBudget)
    view = mesh().budgets.put(principal(), *_named(kinds, subject), limit_usd=asked.limit_usd, period=asked.period)
    return answer(Budget, view)


@blueprint.delete(_PATH)
def remove(kinds: str, subject: str) -> Response:
    """Lift a limit."""
    no_parameters()
    mesh().budgets.remove(principal(), *_named(kinds, subject))
    return Response(status=204)


def _named(kinds: str, subject: str) -> tuple[Kind, str]:
    """Whose budget; users' ids may look like anything that a user id may look like, so that all are held to that."""
    if not re.fullmatch(USER_ID, subject):
        raise NotFoundError("There is no such budget.")
    return Kind(kinds.removesuffix("s")), subject
