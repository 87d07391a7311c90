"""Shared memory of a network: POST, GET, PATCH, DELETE .../memory."""

from collections.abc import Sequence

from flask import Blueprint, Response

from api.answers import answer, expected_versions, made, tagged
from api.context import mesh, principal
from api.idempotency import Transaction, idempotent
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page
from api.schemas.memory import AddMemory, ChangeMemory, ListMemory, MemoryItem
from mesh.memory.views import Filters, MemoryView

blueprint = Blueprint("memory", __name__)


@blueprint.post("/networks/<network_id>/memory")
@idempotent()
def add(within: Transaction, network_id: str) -> Response:
    """Remember an item."""
    no_parameters()
    view = mesh().memory.add(principal(), network_id, body(AddMemory).to_domain(), within=within)
    return tagged(made(MemoryItem, view, f"/networks/{network_id}/memory/{view.memory_id}"), view)


@blueprint.get("/networks/<network_id>/memory", endpoint="list")
def list_(network_id: str) -> Response:
    """Items, newest first; with `query` the best ones, which are one page."""
    asked = parameters(ListMemory)
    filters = Filters(asked.type, asked.min_confidence, asked.task_id)

    def fetch(limit: int, before: str | None) -> Sequence[MemoryView]:
        if asked.query is None:
            return mesh().memory.list(principal(), network_id, limit=limit, before=before, filters=filters)
        return mesh().memory.search(principal(), network_id, asked.query, limit=limit, filters=filters)

    ranked = asked.query is not None
    return page(Page[MemoryItem], asked, fetch, lambda view: view.memory_id, ranked=ranked)


@blueprint.get("/networks/<network_id>/memory/<memory_id>")
def get(network_id: str, memory_id: str) -> Response:
    """One item."""
    no_parameters()
    view = mesh().memory.get(principal(), network_id, memory_id)
    return tagged(answer(MemoryItem, view), view)


@blueprint.patch("/networks/<network_id>/memory/<memory_id>")
def change(network_id: str, memory_id: str) -> Response:
    """Change an item; what is left out stays as it is."""
    no_parameters()
    changes = body(ChangeMemory).to_domain()
    view = mesh().memory.change(principal(), network_id, memory_id, changes, if_version=expected_versions())
    return tagged(answer(MemoryItem, view), view)


@blueprint.delete("/networks/<network_id>/memory/<memory_id>")
def remove(network_id: str, memory_id: str) -> Response:
    """Forget an item."""
    no_parameters()
    mesh().memory.remove(principal(), network_id, memory_id, if_version=expected_versions())
    return Response(status=204)
