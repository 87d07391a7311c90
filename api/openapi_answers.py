"""The answers of the OpenAPI document: what each operation answers, with which headers, and its errors.

api.operations and api.openapi_schemas -> here -> api.openapi.
"""

import json
from collections.abc import Mapping

from werkzeug.routing import Rule

from api import openapi_parts as parts
from api.examples import EXAMPLES, example_of
from api.openapi_schemas import Json, Schemas
from api.operations import Operation, RequestHeader
from api.schemas.events import Event
from mesh.security import policy


def responses(rule: Rule, operation: Operation, needs: policy.Rule, schemas: Schemas) -> Json:
    """What the operation answers, by status."""
    found = {
        str(status): {"$ref": f"#/components/responses/{parts.REFUSALS[status].name}"}
        for status in _refusals(rule, operation, needs)
    }
    for status, type_ in operation.answers.items():
        answer: Json = {"description": _ANSWERS[status], "headers": _answered_headers(operation, status)}
        if status == 200 and operation.stream:
            answer["content"] = _stream({event: schemas.taken(event) for event in operation.stream})
        elif type_ is not None:
            answer["content"] = json_content(schemas.answered(type_), example_of(type_), operation.mimetype)
        found[str(status)] = answer
    return dict(sorted(found.items()))


_ANSWERS = {
    200: "Here it is.",
    201: "It is made.",
    202: "It is stored, and under way.",
    204: "Done, or at the end; there is nothing more to say.",
    304: "It is as it was.",
    503: "Work cannot be accepted.",
}


def _refusals(rule: Rule, operation: Operation, needs: policy.Rule) -> set[int]:
    """The statuses of errors that can be answered."""
    found = {400, 403} | operation.refusals  # 403: see `api.auth`, which looks at foreign pages first
    if not needs.public:
        found |= {401, 429, 503}
    if rule.arguments:
        found.add(404)
    if operation.body is not None:
        found |= {408, 413, 415, 422}
    if RequestHeader.IDEMPOTENCY_KEY in operation.headers:
        found |= {409, 422}
    if RequestHeader.IF_MATCH in operation.headers:
        found.add(412)
    return found


def _answered_headers(operation: Operation, status: int) -> Json:
    names = ["X-Request-ID"]
    if operation.locates:
        names.append("Location")
    if status in {200, 201, 304} and RequestHeader.IF_NONE_MATCH in operation.headers:
        names.append("ETag")
    if RequestHeader.IDEMPOTENCY_KEY in operation.headers:
        names.append("Idempotency-Replayed")
    if status == 503:
        names.append("Retry-After")
    return {name: _header(name) for name in names}


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def refusal_response(status: int, refusal: parts.Refusal) -> Json:
    """The component for an error."""
    names = ["X-Request-ID", *({401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, []))]
    example = {
        "type": "about:blank",
        "title": refusal.title,
        "status": status,
        "detail": refusal.description,
        "instance": f"{parts.BASE}/networks",
        "code": refusal.code,
        "request_id": "5f0c9a1e7d3b4c2f8a6e9d0b1c3f5a7e",
    }
    return {
        "description": refusal.description,
        "headers": {name: _header(name) for name in names},
        "content": json_content({"$ref": "#/components/schemas/Problem"}, example, "application/problem+json"),
    }


def json_content(schema: Json, example: object, mimetype: str = "application/json") -> Json:
    """A body of one format, with its example, if there is one."""
    return {mimetype: {"schema": schema} if example is None else {"schema": schema, "example": example}}


def _stream(events: Mapping[type[Event], Json]) -> Json:
    """Both formats; before OpenAPI 3.2 there is no word for a sequence: `schema` is that of one event, or line."""
    of_sse = [_in_sse(one.event, schema) for one, schema in events.items()]
    of_ndjson = [{"allOf": [schema, _named(one.event)]} for one, schema in events.items()]
    sse = "".join(f"event: {one.event}\ndata: {json.dumps(EXAMPLES[one])}\n\n" for one in events)
    ndjson = "".join(json.dumps({"event": one.event, **EXAMPLES[one]}) + "\n" for one in events)
    return json_content({"oneOf": of_sse}, sse, "text/event-stream") | json_content(
        {"oneOf": of_ndjson}, ndjson, "application/x-ndjson"
    )


def _in_sse(name: str, schema: Json) -> Json:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    found = _named(name)
    found["properties"] |= {"id": {"type": "string"}, "data": data}
    return found | {"required": ["event", "data"]}


def _named(name: str) -> Json:
    return {"type": "object", "properties": {"event": {"const": name}}, "required": ["event"]}
