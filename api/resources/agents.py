"""Agents of a network: POST, GET, PATCH, DELETE .../agents."""

from flask import Blueprint, Response

from api.answers import answer, expected_versions, made, tagged
from api.context import mesh, principal
from api.idempotency import Transaction, idempotent
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page, Paging
from api.schemas.networks import AddAgent, Agent, ChangeAgent

blueprint = Blueprint("agents", __name__)


@blueprint.post("/networks/<network_id>/agents")
@idempotent()
def add(within: Transaction, network_id: str) -> Response:
    """Add an agent to a network."""
    no_parameters()
    config = body(AddAgent).agent_config.to_domain()
    view = mesh().networks.add_agent(principal(), network_id, config, within=within)
    return tagged(made(Agent, view, f"/networks/{network_id}/agents/{view.agent_id}"), view)


@blueprint.get("/networks/<network_id>/agents", endpoint="list")
def list_(network_id: str) -> Response:
    """The network's agents."""
    return page(
        Page[Agent],
        parameters(Paging),
        lambda limit, before: mesh().networks.list_agents(principal(), network_id, limit=limit, before=before),
        lambda view: view.agent_id,
    )


@blueprint.get("/networks/<network_id>/agents/<agent_id>")
def get(network_id: str, agent_id: str) -> Response:
    """One agent."""
    no_parameters()
    view = mesh().networks.get_agent(principal(), network_id, agent_id)
    return tagged(answer(Agent, view), view)


@blueprint.patch("/networks/<network_id>/agents/<agent_id>")
def change(network_id: str, agent_id: str) -> Response:
    """Change an agent; what is left out stays as it is."""
    no_parameters()
    changes = body(ChangeAgent).to_domain()
    view = mesh().networks.change_agent(principal(), network_id, agent_id, changes, if_version=expected_versions())
    return tagged(answer(Agent, view), view)


@blueprint.delete("/networks/<network_id>/agents/<agent_id>")
def remove(network_id: str, agent_id: str) -> Response:
    """Remove an agent from its network."""
    no_parameters()
    mesh().networks.remove_agent(principal(), network_id, agent_id, if_version=expected_versions())
    return Response(status=204)
