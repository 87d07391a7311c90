"""Stream tickets: POST /stream-tickets, for browsers, whose EventSource sends no header."""

from flask import Blueprint, Response

from api.answers import answer
from api.context import mesh, principal
from api.idempotency import Transaction, idempotent
from api.request import body, no_parameters
from api.schemas.tickets import CreateTicket, Ticket

blueprint = Blueprint("tickets", __name__)


@blueprint.post("/stream-tickets")
@idempotent(repeats=True)
def create(within: Transaction) -> Response:
    """Make a ticket for the streams of a task."""
    no_parameters()
    return answer(Ticket, mesh().tickets.issue(principal(), body(CreateTicket).task_id, within=within), 201)
