"""Direct generation: POST /generate/stream, one prompt to the models and its text as it comes.

All that can be refused is refused before the answer begins, as for every stream.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from flask import Blueprint, Response, current_app, request
from flask_sse import Message

from api.context import mesh, principal
from api.relay import Relay, watch
from api.request import body, parameters
from api.resources import streams
from api.schemas.generate import Generate, GenerateParameters
from api.stream_topics import Reader
from api.streams import Hub
from mesh.errors import InvalidInputError, Problem
from mesh.events.log import StoredEvent

blueprint = Blueprint("generate", __name__)


def _sse(event: StoredEvent) -> bytes:
    # Without a number: there is nothing to resume.
    return str(Message(json.dumps(event.data), type=event.type)).encode()


_FORMATS = {streams.SSE: replace(streams.SSE, event=_sse), streams.NDJSON: streams.NDJSON}


@blueprint.post("/generate/stream")
def stream() -> Response:
    """Generate, and stream the text."""
    wire = _FORMATS[streams.wire_format(parameters(GenerateParameters).format)]
    if "Idempotency-Key" in request.headers:
        problem = Problem("", "not_idempotent", "Leave the header Idempotency-Key out: nothing is stored to replay.")
        raise InvalidInputError("This stream takes no Idempotency-Key.", [problem])
    service, hub = mesh().generations, cast(Hub, current_app.extensions[streams.EXTENSION])
    job = service.admit(principal(), body(Generate).to_domain())
    connection = request.environ.get("gunicorn.socket")
    reader = Reader(wire, 0, key_id=job.key_id, connection=connection)
    ends: list[Callable[[], object]] = [lambda: service.release(job)]
    try:
        ends.append(hub.listen(job.generation_id, reader))
        service.send(job)
    except BaseException:
        _end(ends)
        raise
    if connection is not None:  # under gunicorn, that is
        ends.append(watch(connection, reader))
    relay = Relay(wire, reader, lambda: service.keep(job))
    response = Response(iter(relay), content_type=wire.mimetype, headers=streams.HEADERS)
    response.call_on_close(lambda: _end(ends))
    return response


def _end(ends: list[Callable[[], object]]) -> None:
    """Stop watching, then listening, and last give the slot back."""
    for end in reversed(ends):
        end()
