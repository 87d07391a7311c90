"""Health: /health for people and monitors, /health/live and /health/ready for whoever starts processes."""

from flask import Blueprint, Response

from api.answers import answer
from api.auth import visitor
from api.context import mesh
from api.errors import RETRY_AFTER_SECONDS
from api.request import no_parameters
from api.schemas.health import Report, Status

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def report() -> Response:
    """How the service does; every part of it for administrators."""
    no_parameters()
    found = mesh().health.report()
    # A key is a row, too: while the database is away nobody can be told to be an administrator.
    caller = visitor() if found.status != "unhealthy" else None
    if caller is None or not caller.is_admin:
        return _answer(found.status)
    return answer(Report, {**vars(found), **vars(mesh().health.counts())})


@blueprint.get("/health/live")
def live() -> Response:
    """That this process answers, whatever the state of others."""
    no_parameters()
    return answer(Status, {"status": "healthy"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """Whether work is accepted."""
    no_parameters()
    return _answer(mesh().health.ready())


def _answer(status: str) -> Response:
    if status != "unhealthy":
        return answer(Status, {"status": status})
    return answer(Status, {"status": status}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
