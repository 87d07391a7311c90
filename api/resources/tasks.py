"""Tasks: submit, read, process, cancel, and the graph of steps."""

from flask import Blueprint, Response

from api.answers import answer, made
from api.context import mesh, principal
from api.idempotency import Transaction, idempotent
from api.pagination import page
from api.request import body, no_body, no_parameters, parameters
from api.schemas.base import Page
from api.schemas.tasks import GetTask, ListTasks, Step, SubmitTask, Task
from api.waiting import wait_for_end
from mesh.tasks.states import ENDED_TASKS

blueprint = Blueprint("tasks", __name__)


@blueprint.post("/networks/<network_id>/tasks")
@idempotent()
def submit(within: Transaction, network_id: str) -> Response:
    """Submit a task; it is stored before this is answered."""
    no_parameters()
    view = mesh().tasks.submit(principal(), network_id, body(SubmitTask).to_domain(), within=within)
    return made(Task, view, f"/networks/{network_id}/tasks/{view.task_id}", 202)


@blueprint.get("/networks/<network_id>/tasks", endpoint="list")
def list_(network_id: str) -> Response:
    """The network's tasks."""
    query = parameters(ListTasks)
    return page(
        Page[Task],
        query,
        lambda limit, before: mesh().tasks.list(
            principal(),
            network_id,
            limit=limit,
            before=before,
            status=query.status,
            created_from=query.created_from,
            created_to=query.created_to,
        ),
        lambda view: view.task_id,
    )


@blueprint.get("/networks/<network_id>/tasks/<task_id>")
def get(network_id: str, task_id: str) -> Response:
    """One task; with `wait` not before it has ended, or that many seconds have passed."""
    asked = parameters(GetTask)
    position = mesh().events.last(task_id) if asked.wait else 0
    view = mesh().tasks.get(principal(), network_id, task_id)
    if asked.wait and view.status not in ENDED_TASKS:
        wait_for_end(task_id, position, seconds=asked.wait)
        view = mesh().tasks.get(principal(), network_id, task_id)
    return answer(Task, view)


@blueprint.get("/networks/<network_id>/tasks/<task_id>/steps")
def steps(network_id: str, task_id: str) -> Response:
    """The task's graph, whole, in the order of its making."""
    no_parameters()
    views = mesh().tasks.steps(principal(), network_id, task_id)
    return answer(Page[Step], {"items": views, "next_cursor": None})


@blueprint.post("/networks/<network_id>/tasks/<task_id>/process")
def process(network_id: str, task_id: str) -> Response:
    """Start or resume a task; one that is completed is answered as it is."""
    no_parameters()
    no_body()
    view = mesh().tasks.process(principal(), network_id, task_id)
    status = 200 if view.status == "completed" else 202
    return made(Task, view, f"/networks/{network_id}/tasks/{task_id}", status)


@blueprint.post("/networks/<network_id>/tasks/<task_id>/cancel")
def cancel(network_id: str, task_id: str) -> Response:
    """Cancel a task; running calls are cut off."""
    no_parameters()
    no_body()
    return answer(Task, mesh().tasks.cancel(principal(), network_id, task_id))
