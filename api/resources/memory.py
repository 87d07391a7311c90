"""Shared memory of a network: POST, GET .../memory."""

from flask import Blueprint, Response

from api.answers import made
from api.context import mesh, principal
from api.pagination import page
from api.request import body, no_parameters, parameters
from api.schemas.base import Page
from api.schemas.memory import AddMemory, ListMemory, MemoryItem

blueprint = Blueprint("memory", __name__)


@blueprint.post("/networks/<network_id>/memory")
def add(network_id: str) -> Response:
    """Remember an item."""
    no_parameters()
    view = mesh().memory.add(principal(), network_id, body(AddMemory).to_domain())
    return made(MemoryItem, view, f"/networks/{network_id}/memory/{view.memory_id}")


@blueprint.get("/networks/<network_id>/memory", endpoint="list")
def list_(network_id: str) -> Response:
    """Items, newest first; with `query` the best ones, which are one page."""
    asked = parameters(ListMemory)
    return page(
        Page[MemoryItem],
        asked,
        lambda limit, before: mesh().memory.list(
            principal(),
            network_id,
            limit=limit,
            before=before,
            type=asked.type,
            query=asked.query,
            min_confidence=asked.min_confidence,
            task_id=asked.task_id,
        ),
        lambda view: view.memory_id,
        ranked=asked.query is not None,
    )
