"""The OpenAPI 3.1 document of the interface, made from the code.

Flask's routes, the docstrings of views, api.operations (types), api.examples and mesh.security.policy (who may) ->
here -> api.resources.openapi; `python -m api.openapi` prints it.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from pydantic import SecretStr, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from werkzeug.routing import Rule

from api import openapi_parts as parts
from api.examples import EXAMPLES, example_of
from api.operations import OPERATIONS, Operation, RequestHeader
from api.schemas.events import Event
from api.schemas.problems import Problem
from mesh import __version__
from mesh.security import policy

BASE = "/api/mesh"

Json = dict[str, Any]


def document(app: Flask) -> Json:
    """The document of what `app` serves below `BASE`.

    Raises:
        KeyError: an operation or a variable of a path has no line in its table.
    """
    schemas = _Schemas()
    paths: dict[str, Json] = {}
    tags: dict[str, str] = {}
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith(BASE):
            continue
        view = app.view_functions[rule.endpoint]
        tags[_tag(rule)] = (inspect.getdoc(inspect.getmodule(view)) or "").partition("\n")[0]
        path = re.sub(r"<(?:.*:)?(\w+)>", r"{\1}", rule.rule.removeprefix(BASE))
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule, inspect.getdoc(view) or "", schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AI Mesh Network",
            "version": __version__,
            "description": parts.DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": BASE}],
        "tags": [{"name": name, "description": description} for name, description in tags.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "responses": {refusal.name: _refusal(status, refusal) for status, refusal in parts.REFUSALS.items()},
            "headers": parts.HEADERS,
            "securitySchemes": parts.CREDENTIALS | parts.TICKET,
        },
    }


class _WithoutFieldTitles(GenerateJsonSchema):
    """Fields say what they are by their names; pydantic would repeat those in capitals."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002  # as pydantic has it
        return False


class _Schemas:
    """The JSON schemas of all that is taken and answered, as pydantic makes them."""

    def __init__(self) -> None:
        wanted = {(repr(type_), mode): TypeAdapter(type_) for mode, type_ in _types()}
        found, whole = TypeAdapter.json_schemas(
            [(name, mode, adapter) for (name, mode), adapter in wanted.items()],
            ref_template="#/components/schemas/{model}",
            schema_generator=_WithoutFieldTitles,
        )
        self._of: dict[tuple[str, JsonSchemaMode], Json] = found
        self._components: Json = whole["$defs"]
        queries = {self.taken(operation.query)["$ref"] for operation in OPERATIONS.values()}
        self._queries: dict[str, Json] = {
            reference: self._components.pop(reference.rpartition("/")[2]) for reference in queries
        }

    def taken(self, type_: object) -> Json:
        """The schema of what is asked: mostly a reference to a component."""
        return self._of[repr(type_), "validation"]

    def answered(self, type_: object) -> Json:
        """The schema of what is answered."""
        return self._of[repr(type_), "serialization"]

    def query(self, type_: object) -> Json:
        """The schema of a query string, which is no component: its properties are parameters."""
        return self._queries[self.taken(type_)["$ref"]]

    def components(self) -> Json:
        """What is referred to."""
        return self._components


def _types() -> Iterator[tuple[JsonSchemaMode, Any]]:
    yield "validation", Problem
    for operation in OPERATIONS.values():
        for taken in (operation.query, operation.body):
            if taken is not None:
                yield "validation", taken
        for answered in operation.answers.values():
            if answered is not None:
                yield "serialization", answered
        for event in operation.stream:
            yield "validation", event  # where some fields may be missing


def _operation(rule: Rule, text: str, schemas: _Schemas) -> Json:
    operation, needs = OPERATIONS[rule.endpoint], policy.POLICY[rule.endpoint]
    summary, _, more = text.partition("\n")
    found = {
        "operationId": rule.endpoint,
        "tags": [_tag(rule)],
        "summary": summary,
        "description": "\n\n".join(filter(None, [more.strip(), _needed(needs)])),
        "security": _security(needs),
        "parameters": [*_variables(rule), *_query(operation, schemas), *_headers(operation)],
        "responses": _responses(rule, operation, needs, schemas),
    }
    if operation.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": _json(schemas.taken(operation.body), EXAMPLES[operation.body]),
        }
    return found


def _tag(rule: Rule) -> str:
    return str(rule.endpoint).partition(".")[0]


def _needed(needs: policy.Rule) -> str:
    if needs.public:
        return "Needs no credentials."
    scopes = " or ".join(f"`{scope}`" for scope in sorted(needs.scopes))
    role = f" and the role `{next(iter(needs.roles))}`" if len(needs.roles) == 1 else ""
    return f"Needs the scope {scopes}{role}."


def _security(needs: policy.Rule) -> list[dict[str, list[str]]]:
    """Any one of these; beside schemes that know no scopes of their own, 3.1 lets roles be named."""
    found = [{scheme: [str(scope)]} for scheme in parts.CREDENTIALS for scope in sorted(needs.scopes)]
    if needs.tickets:
        found += [{scheme: []} for scheme in parts.TICKET]
    return found


def _variables(rule: Rule) -> Iterator[Json]:
    for name in re.findall(r"(\w+)>", rule.rule):
        yield {"name": name, "in": "path", "required": True, **parts.VARIABLES[name]}


def _query(operation: Operation, schemas: _Schemas) -> Iterator[Json]:
    whole, examples = schemas.query(operation.query), EXAMPLES.get(operation.query, {})
    for name, given in whole.get("properties", {}).items():
        if name == "ticket":  # stands among the credentials
            continue
        schema = _without_null(given)
        parameter = {"name": name, "in": "query", "required": name in whole.get("required", ()), "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if name in examples:
            parameter["example"] = examples[name]
        yield parameter


def _without_null(schema: Json) -> Json:
    """A query string cannot say null: what is absent is null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return dict(schema)
    return {**kinds[0], **{name: value for name, value in schema.items() if name not in {"anyOf", "default"}}}


def _headers(operation: Operation) -> Iterator[Json]:
    for header in operation.headers:
        yield {"name": header.value, "in": "header", "required": False, **parts.REQUEST_HEADERS[header]}


def _responses(rule: Rule, operation: Operation, needs: policy.Rule, schemas: _Schemas) -> Json:
    found = {
        str(status): {"$ref": f"#/components/responses/{parts.REFUSALS[status].name}"}
        for status in _refusals(rule, operation, needs)
    }
    for status, type_ in operation.answers.items():
        answer: Json = {"description": _ANSWERS[status], "headers": _answered_headers(operation, status)}
        if status == 200 and operation.stream:
            answer["content"] = _stream({event: schemas.taken(event) for event in operation.stream})
        elif type_ is not None:
            answer["content"] = _json(schemas.answered(type_), example_of(type_), operation.mimetype)
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
    found = {400} | operation.refusals
    if not needs.public:
        found |= {401, 403, 429, 503}
    if rule.arguments:
        found.add(404)
    if operation.body is not None:
        found |= {413, 415, 422}
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


def _refusal(status: int, refusal: parts.Refusal) -> Json:
    names = ["X-Request-ID", *({401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, []))]
    example = {
        "type": "about:blank",
        "title": refusal.title,
        "status": status,
        "detail": refusal.description,
        "instance": f"{BASE}/networks",
        "code": refusal.code,
        "request_id": "5f0c9a1e7d3b4c2f8a6e9d0b1c3f5a7e",
    }
    return {
        "description": refusal.description,
        "headers": {name: _header(name) for name in names},
        "content": _json({"$ref": "#/components/schemas/Problem"}, example, "application/problem+json"),
    }


def _json(schema: Json, example: object, mimetype: str = "application/json") -> Json:
    return {mimetype: {"schema": schema} if example is None else {"schema": schema, "example": example}}


def _stream(events: Mapping[type[Event], Json]) -> Json:
    """Both formats; before OpenAPI 3.2 there is no word for a sequence: `schema` is that of one event, or line."""
    of_sse = [_in_sse(one.event, schema) for one, schema in events.items()]
    of_ndjson = [{"allOf": [schema, _named(one.event)]} for one, schema in events.items()]
    sse = "".join(f"event: {one.event}\ndata: {json.dumps(EXAMPLES[one])}\n\n" for one in events)
    ndjson = "".join(json.dumps({"event": one.event, **EXAMPLES[one]}) + "\n" for one in events)
    return _json({"oneOf": of_sse}, sse, "text/event-stream") | _json(
        {"oneOf": of_ndjson}, ndjson, "application/x-ndjson"
    )


def _in_sse(name: str, schema: Json) -> Json:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    found = _named(name)
    found["properties"] |= {"id": {"type": "string"}, "data": data}
    return found | {"required": ["event", "data"]}


def _named(name: str) -> Json:
    return {"type": "object", "properties": {"event": {"const": name}}, "required": ["event"]}


def as_text(found: Json) -> str:
    """A document as it is kept in docs/openapi.json."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the document; nothing is connected for it."""
    from api.app import create_app  # noqa: PLC0415  # which serves what is made here
    from mesh.bootstrap import build  # noqa: PLC0415
    from mesh.config import Settings  # noqa: PLC0415

    settings = Settings(
        database_url="postgresql://unused", redis_url="redis://unused", secrets=SecretStr("v1:" + 32 * "x")
    )
    sys.stdout.write(as_text(document(create_app(build(settings, name="openapi")))))


if __name__ == "__main__":
    main()
