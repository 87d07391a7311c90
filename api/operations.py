"""The table of operations: what each takes and answers, for the document of the interface.

api.openapi reads it; who may do what stands in mesh.security.policy.  A test holds every line against what its view
really reads and answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel

from api.resources.streams import StreamParameters, SubmitParameters
from api.schemas import budgets, events, generate, memory, models, networks, security, stats, tasks, tickets
from api.schemas.base import Page, Paging, Parameters
from api.schemas.health import Report, Status


class RequestHeader(Enum):
    """Headers that only some operations take; the value is the name on the wire."""

    IDEMPOTENCY_KEY = "Idempotency-Key"
    IF_MATCH = "If-Match"
    IF_NONE_MATCH = "If-None-Match"
    LAST_EVENT_ID = "Last-Event-ID"


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation takes and answers.

    `answers`: the type of the JSON for each status of success, None for an answer without a body.
    `stream`: the events that it is made of, which then is the answer of status 200.
    `locates`: the answer says where the new thing is.
    `mimetype`: of the answers, when they are no JSON.
    `refusals`: statuses of errors that do not follow from the rest, see `api.openapi`.
    """

    answers: Mapping[int, Any]
    body: type[BaseModel] | None = None
    query: type[BaseModel] = Parameters
    headers: tuple[RequestHeader, ...] = ()
    stream: tuple[type[events.Event], ...] = ()
    locates: bool = False
    mimetype: str = "application/json"
    refusals: frozenset[int] = field(default_factory=frozenset)


READ_ANEW = (RequestHeader.IF_NONE_MATCH,)
UNCHANGED = (RequestHeader.IF_MATCH,)
REPEATABLE = (RequestHeader.IDEMPOTENCY_KEY,)
CONFLICT = frozenset({409})
TAKES_NO_BODY = frozenset({408, 413, 415, 422})  # and says so to whoever sends one

OPERATIONS: dict[str, Operation] = {
    "networks.create": Operation({201: networks.Network}, networks.CreateNetwork, headers=REPEATABLE, locates=True),
    "networks.list": Operation({200: Page[networks.Network]}, query=Paging),
    "networks.get": Operation({200: networks.Network, 304: None}, headers=READ_ANEW),
    "networks.change": Operation({200: networks.Network}, networks.ChangeNetwork, headers=UNCHANGED),
    "networks.delete": Operation({204: None}, headers=UNCHANGED),
    "agents.add": Operation(
        {201: networks.Agent}, networks.AddAgent, headers=REPEATABLE, locates=True, refusals=CONFLICT
    ),
    "agents.list": Operation({200: Page[networks.Agent]}, query=Paging),
    "agents.get": Operation({200: networks.Agent, 304: None}, headers=READ_ANEW),
    "agents.change": Operation({200: networks.Agent}, networks.ChangeAgent, headers=UNCHANGED, refusals=CONFLICT),
    "agents.remove": Operation({204: None}, headers=UNCHANGED, refusals=CONFLICT),
    "tasks.submit": Operation({202: tasks.Task}, tasks.SubmitTask, headers=REPEATABLE, locates=True),
    "tasks.list": Operation({200: Page[tasks.Task]}, query=tasks.ListTasks),
    "tasks.get": Operation({200: tasks.Task}, query=tasks.GetTask),
    "tasks.steps": Operation({200: Page[tasks.Step]}),
    "tasks.process": Operation({200: tasks.Task, 202: tasks.Task}, locates=True, refusals=CONFLICT | TAKES_NO_BODY),
    "tasks.cancel": Operation({200: tasks.Task}, refusals=CONFLICT | TAKES_NO_BODY),
    "memory.add": Operation({201: memory.MemoryItem}, memory.AddMemory, headers=REPEATABLE, locates=True),
    "memory.list": Operation({200: Page[memory.MemoryItem]}, query=memory.ListMemory),
    "memory.get": Operation({200: memory.MemoryItem, 304: None}, headers=READ_ANEW),
    "memory.change": Operation({200: memory.MemoryItem}, memory.ChangeMemory, headers=UNCHANGED),
    "memory.remove": Operation({204: None}, headers=UNCHANGED),
    "budgets.get": Operation({200: budgets.Budget}),
    "budgets.put": Operation({200: budgets.Budget}, budgets.SetBudget),
    "budgets.remove": Operation({204: None}),
    "generate.stream": Operation(
        {200: None},
        generate.Generate,
        query=generate.GenerateParameters,
        stream=events.OF_GENERATION,
        refusals=frozenset({404}),
    ),
    "tickets.create": Operation(
        {201: tickets.Ticket}, tickets.CreateTicket, headers=REPEATABLE, refusals=frozenset({404})
    ),
    "streams.events": Operation(
        {200: None, 204: None},
        query=StreamParameters,
        headers=(RequestHeader.LAST_EVENT_ID,),
        stream=events.STORED,
    ),
    "streams.stream": Operation(
        {200: None, 204: None},
        query=StreamParameters,
        headers=(RequestHeader.LAST_EVENT_ID,),
        stream=events.ALL,
    ),
    "streams.submit": Operation(
        {200: None, 204: None},
        tasks.SubmitTask,
        query=SubmitParameters,
        headers=(*REPEATABLE, RequestHeader.LAST_EVENT_ID),
        stream=events.ALL,
        locates=True,
    ),
    "stats.cost": Operation({200: stats.Cost | stats.CostByDay}, query=stats.AskStatistics),
    "stats.usage": Operation({200: stats.Usage | stats.UsageByDay}, query=stats.AskStatistics),
    "stats.models": Operation({200: models.Models}),
    "security.create_key": Operation({201: security.NewKey}, security.CreateKey, headers=REPEATABLE, locates=True),
    "security.list_keys": Operation({200: Page[security.Key]}, query=security.ListKeys),
    "security.revoke_key": Operation({204: None}),
    "health.report": Operation({200: Report | Status, 503: Report | Status}),
    "health.live": Operation({200: Status}),
    "health.ready": Operation({200: Status, 503: Status}),
    "openapi.document": Operation({200: dict[str, Any], 304: None}, headers=READ_ANEW),
    "openapi.docs": Operation({200: str, 304: None}, headers=READ_ANEW, mimetype="text/html"),
}
