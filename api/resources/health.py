"""Health: /health for people and monitors, /health/live and /health/ready for whoever starts processes."""

from flask import Blueprint, Response

from api.answers import answer
from api.auth import visitor
from api.context import mesh
from api.errors import RETRY_AFTER_SECONDS
from api.schemas.health import Report, Status

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def report() -> Response:
    """How the service does; every part of it for administrators."""
    caller = visitor()
    return _answer(Report if caller is not None and caller.is_admin else Status)


@blueprint.get("/health/live")
def live() -> Response:
    """That this process answers, whatever the state of others."""
    return answer(Status, {"status": "healthy"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """Whether work is accepted."""
    return _answer(Status)


def _answer(model: type[Status]) -> Response:
    found = mesh().health.report()
    if found.status != "unhealthy":
        return answer(model, found)
    return answer(model, found, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
