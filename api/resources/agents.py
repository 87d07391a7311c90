"""Agents of a network: POST, GET, DELETE .../agents."""

from flask import Blueprint, Response

from api.answers import made
from api.context import mesh, principal
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page, Paging
from api.schemas.networks import AddAgent, Agent

blueprint = Blueprint("agents", __name__)


@blueprint.post("/networks/<network_id>/agents")
def add(network_id: str) -> Response:
    """Add an agent to a network."""
    no_parameters()
    view = mesh().networks.add_agent(principal(), network_id, body(AddAgent).agent_config.to_domain())
    return made(Agent, view, f"/networks/{network_id}/agents/{view.agent_id}")


@blueprint.get("/networks/<network_id>/agents", endpoint="list")
def list_(network_id: str) -> Response:
    """The network's agents."""
    return page(
        Page[Agent],
        parameters(Paging),
        lambda limit, before: mesh().networks.list_agents(principal(), network_id, limit=limit, before=before),
        lambda view: view.agent_id,
    )


@blueprint.delete("/networks/<network_id>/agents/<agent_id>")
def remove(network_id: str, agent_id: str) -> Response:
    """Remove an agent from its network."""
    no_parameters()
    mesh().networks.remove_agent(principal(), network_id, agent_id)
    return Response(status=204)
