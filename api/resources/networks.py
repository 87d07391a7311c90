"""Networks: POST, GET, PATCH, DELETE /networks."""

from flask import Blueprint, Response

from api.answers import answer, expected_versions, made, tagged
from api.context import mesh, principal
from api.idempotency import Transaction, idempotent
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page, Paging
from api.schemas.networks import ChangeNetwork, CreateNetwork, Network

blueprint = Blueprint("networks", __name__)


@blueprint.post("/networks")
@idempotent()
def create(within: Transaction) -> Response:
    """Make a network."""
    no_parameters()
    view = mesh().networks.create(principal(), body(CreateNetwork).to_domain(), within=within)
    return tagged(made(Network, view, f"/networks/{view.network_id}"), view)


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
    view = mesh().networks.get(principal(), network_id)
    return tagged(answer(Network, view), view)


@blueprint.patch("/networks/<network_id>")
def change(network_id: str) -> Response:
    """Change a network; what is left out stays as it is."""
    no_parameters()
    changes = body(ChangeNetwork).to_domain()
    view = mesh().networks.change(principal(), network_id, changes, if_version=expected_versions())
    return tagged(answer(Network, view), view)


@blueprint.delete("/networks/<network_id>")
def delete(network_id: str) -> Response:
    """Delete a network."""
    no_parameters()
    mesh().networks.delete(principal(), network_id, if_version=expected_versions())
    return Response(status=204)
