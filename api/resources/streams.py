"""Streams of a task's events, as server-sent events or as lines of JSON.

All that can be refused is refused before the answer begins: past that, an error could only cut the stream.
"""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from flask import Blueprint, Response, request
from flask_sse import Message
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from api import context
from api.answers import made
from api.context import principal
from api.errors import MalformedRequestError
from api.idempotency import HEADER as IDEMPOTENCY_KEY
from api.idempotency import REPLAYED, Transaction, idempotent
from api.request import body, parameters
from api.schemas.tasks import SubmitTask, Task
from api.stream_texts import TextsSent
from api.stream_topics import Format, Reader
from api.streams import Hub
from mesh.events.live import LiveConnection
from mesh.events.log import EventLog, StoredEvent
from mesh.events.texts import Texts
from mesh.generate.connection import connect as connect_redis

if TYPE_CHECKING:
    from mesh.bootstrap import Mesh

EXTENSION = "streams"
RETRY_MILLISECONDS = 2_000


def _digits(given: object) -> object:
    """Left to itself, pydantic takes "5.0", " 5" and "1_0" for numbers."""
    if isinstance(given, str) and not (given.isascii() and given.isdigit()):
        raise ValueError("only digits are a number here")
    return given


Position = Annotated[int, Field(ge=0, le=999_999_999), BeforeValidator(_digits)]  # a column of 32 bits holds it
_POSITION: TypeAdapter[int] = TypeAdapter(Position)


class StreamParameters(BaseModel, extra="forbid"):
    """The query string of a stream; a header `Last-Event-ID` goes before `last_event_id`."""

    last_event_id: Position | None = None
    format: Literal["sse", "ndjson"] | None = None
    ticket: str | None = None  # read by `api.auth`


class SubmitParameters(BaseModel, extra="forbid"):
    """The query string of `tasks/stream`."""

    format: Literal["sse", "ndjson"] | None = None


def _sse(event: StoredEvent) -> bytes:
    # As text of JSON in ASCII, since Message would split other text at U+2028.
    return str(Message(json.dumps(event.data), type=event.type, id=event.sequence)).encode()


def _ndjson(event: StoredEvent) -> bytes:
    return (json.dumps({"event": event.type, **event.data}) + "\n").encode()


SSE = Format(
    "text/event-stream; charset=utf-8",
    opening=f"retry: {RETRY_MILLISECONDS}\n: stream\n\n".encode(),
    heartbeat=b": hb\n\n",
    event=_sse,
    farewell=lambda milliseconds: f"retry: {milliseconds}\n\n".encode(),
)
NDJSON = Format(
    "application/x-ndjson",
    opening=b"\n",
    heartbeat=b"\n",
    event=_ndjson,
    farewell=lambda _milliseconds: b"\n",
)
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept"}


def blueprint(mesh: "Mesh", *, beat_seconds: float = 15.0) -> Blueprint:
    """The streams of `mesh`, with a heartbeat every `beat_seconds`.

    The application's hub is `app.extensions["streams"]`, for `api.streams.install_drain`.
    """
    connect = partial(LiveConnection, mesh.settings.redis_url)
    texts = Texts(connect_redis(mesh.settings.redis_url))
    hub = Hub(mesh.events, mesh.keys.is_live, connect, texts, beat_seconds=beat_seconds)
    streams = Blueprint("streams", __name__)
    streams.record_once(lambda state: state.app.extensions.update({EXTENSION: hub}))

    @streams.get("/api/mesh/tasks/<task_id>/events")
    def events(task_id: str) -> Response:
        """The task's events."""
        wanted = parameters(StreamParameters)
        mesh.tasks.find(principal(), task_id)
        position = _last_event_id(wanted)
        if position is None:
            position = mesh.events.opening(task_id)
        elif _is_past_the_end(mesh.events, task_id, position):
            return Response(status=204)
        return _answer(hub, task_id, wire_format(wanted.format), position)

    @streams.get("/api/mesh/tasks/<task_id>/stream")
    def stream(task_id: str) -> Response:
        """The task's events, and the texts of its steps while they are written."""
        wanted = parameters(StreamParameters)
        return _stream(hub, mesh, task_id, wanted.format, _last_event_id(wanted))

    @streams.post("/api/mesh/networks/<network_id>/tasks/stream")
    def submit(network_id: str) -> Response:
        """Submit a task, and go on as its `stream`; one that was submitted with the same key is joined."""
        wanted = parameters(SubmitParameters)
        if "Last-Event-ID" in request.headers and IDEMPOTENCY_KEY not in request.headers:
            raise MalformedRequestError("A new task has no events yet; go on with GET /tasks/{task_id}/stream.")
        position = _last_event_id(StreamParameters())  # before anything is stored
        submitted = _submitted(network_id, hub)
        task_id = str(submitted.get_json()["task_id"])
        # What is new here has no events yet: a position can only be that of another task.
        position = position if REPLAYED in submitted.headers else None
        answer = _stream(hub, mesh, task_id, wanted.format, position)
        kept = ("Location", REPLAYED)
        answer.headers.extend({name: submitted.headers[name] for name in kept if name in submitted.headers})
        return answer

    return streams


@idempotent()
def _submitted(within: Transaction, network_id: str, hub: Hub) -> Response:
    new, mesh = body(SubmitTask).to_domain(), context.mesh()
    with mesh.database.begin(within=within) as work:
        # Before the worker hears of the task, else its first step is over before anybody is known to watch.
        work.after_commit(lambda: hub.watch(view.task_id))
        view = mesh.tasks.submit(principal(), network_id, new, within=work)
    return made(Task, view, f"/networks/{network_id}/tasks/{view.task_id}", 202)


def _stream(hub: Hub, mesh: "Mesh", task_id: str, asked: Literal["sse", "ndjson"] | None, seen: int | None) -> Response:
    mesh.tasks.find(principal(), task_id)
    opening = mesh.events.opening(task_id)
    if seen is None:
        seen = opening
    elif _is_past_the_end(mesh.events, task_id, seen):
        return Response(status=204)
    # Whoever comes back is sent the texts of all steps that run, so all of the run's events are read.
    return _answer(hub, task_id, wire_format(asked), min(seen, opening), seen=seen, texts=TextsSent())


def _answer(
    hub: Hub, task_id: str, wire: Format, position: int, *, seen: int = 0, texts: TextsSent | None = None
) -> Response:
    connection = request.environ.get("gunicorn.socket")
    reader = Reader(wire, position, key_id=principal().key_id, connection=connection, texts=texts, seen=seen)
    return Response(hub.stream(task_id, reader), content_type=wire.mimetype, headers=HEADERS)


def _last_event_id(wanted: StreamParameters) -> int | None:
    given = request.headers.get("Last-Event-ID")
    if not given:
        return wanted.last_event_id
    try:
        return _POSITION.validate_python(given)
    except ValidationError:
        raise MalformedRequestError("Last-Event-ID must be the number of an event, or 0 for all of them.") from None


def _is_past_the_end(events: EventLog, task_id: str, position: int) -> bool:
    """Whether nothing comes after `position`, since the task ended with the `complete` there, or before it.

    Raises:
        MalformedRequestError: the task goes on and has no such event yet; numbers are never given out ahead.
    """
    if position == 0:
        return False
    at = events.after(task_id, position - 1, 1)
    if at and at[0].type != "complete":
        return False
    end = events.ended_at(task_id)
    if end is not None and end <= position:
        return True
    if not at:
        raise MalformedRequestError("This task has no event of that number yet: it cannot have been seen.")
    return False


def wire_format(asked: Literal["sse", "ndjson"] | None) -> Format:
    """How a stream is to stand on the wire: as the query string asks, else as the header Accept does."""
    if asked is not None:
        return NDJSON if asked == "ndjson" else SSE
    mimetypes = ["text/event-stream", NDJSON.mimetype]
    return NDJSON if request.accept_mimetypes.best_match(mimetypes) == NDJSON.mimetype else SSE
