"""The OpenAPI 3.1 document of the interface, made from the code.

Flask's routes, docstrings of views, api.operations (types), api.examples and mesh.security.policy (who may) -> here,
with api.openapi_schemas, _answers and _parts -> api.resources.openapi; `python -m api.openapi` prints it.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator

from flask import Flask
from pydantic import SecretStr
from werkzeug.routing import Rule

from api import openapi_parts as parts
from api.examples import EXAMPLES
from api.openapi_answers import json_content, refusal_response, responses
from api.openapi_parts import BASE
from api.openapi_schemas import Json, Schemas
from api.operations import OPERATIONS, Operation
from mesh import __version__
from mesh.security import policy


def document(app: Flask) -> Json:
    """The document of what `app` serves below `BASE`.

    Raises:
        KeyError: an operation or a variable of a path has no line in its table.
    """
    schemas = Schemas()
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
            "responses": {
                refusal.name: refusal_response(status, refusal) for status, refusal in parts.REFUSALS.items()
            },
            "headers": parts.HEADERS,
            "securitySchemes": parts.CREDENTIALS | parts.TICKET,
        },
    }


def _operation(rule: Rule, text: str, schemas: Schemas) -> Json:
    operation, needs = OPERATIONS[rule.endpoint], policy.POLICY[rule.endpoint]
    summary, _, more = text.partition("\n")
    found = {
        "operationId": rule.endpoint,
        "tags": [_tag(rule)],
        "summary": summary,
        "description": "\n\n".join(filter(None, [more.strip(), _needed(needs)])),
        "security": _security(needs),
        "parameters": [*_variables(rule), *_query(operation, schemas), *_headers(operation)],
        "responses": responses(rule, operation, needs, schemas),
    }
    if operation.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": json_content(schemas.taken(operation.body), EXAMPLES[operation.body]),
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


def _query(operation: Operation, schemas: Schemas) -> Iterator[Json]:
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


def as_text(found: Json) -> str:
    """A document as it is kept in docs/openapi.json."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the document; nothing is connected for it."""
    from api.app import create_app  # noqa: PLC0415  # which serves what is made here
    from mesh.bootstrap import build  # noqa: PLC0415  # the same
    from mesh.config import Settings  # noqa: PLC0415  # the same

    settings = Settings(
        database_url="postgresql://unused", redis_url="redis://unused", secrets=SecretStr("v1:" + 32 * "x")
    )
    sys.stdout.write(as_text(document(create_app(build(settings, name="openapi")))))


if __name__ == "__main__":
    main()
