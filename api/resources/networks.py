"""Networks: POST, GET, DELETE /networks."""

from flask import Blueprint, Response

from api.answers import answer, made
from api.context import mesh, principal
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page, Paging
from api.schemas.networks import CreateNetwork, Network

blueprint = Blueprint("networks", __name__)


@blueprint.post("/networks")
def create() -> Response:
    """Make a network."""
    no_parameters()
    view = mesh().networks.create(principal(), body(CreateNetwork).to_domain())
    return made(Network, view, f"/networks/{view.network_id}")


@blueprint.get("/networks", endpoint="list")
def list_() -> Response:
    """The caller's networks."""
    return page(
        Page[Network],
        parameters(Paging),
        lambda limit, before: mesh().networks.list(principal(), limit=limit, before=before),
        lambda view: view.network_id,
    )


@blueprint.get("/networks/<network_id>")
def get(network_id: str) -> Response:
    """One network."""
    no_parameters()
    return answer(Network, mesh().networks.get(principal(), network_id))


@blueprint.delete("/networks/<network_id>")
def delete(network_id: str) -> Response:
    """Delete a network."""
    no_parameters()
    mesh().networks.delete(principal(), network_id)
    return Response(status=204)
