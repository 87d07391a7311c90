"""The document against the running service: every example in it works, and Schemathesis finds nothing."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # comes without types, by way of litellm

from api.examples import AGENT_ID, KEY_ID, MEMORY_ID, NETWORK_ID, TASK_ID
from tests.fuzz import fuzz
from tests.integration.api.conftest import Service

pytestmark = pytest.mark.timeout(90)


def test_every_example_is_a_request_that_is_answered_as_documented(service: Service) -> None:
    document = service.client().get("/openapi.json").json()
    ann = service.user("ann@example.com", "read", "write", "create", "delete")
    ids = _made(document, service.admin, ann)
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    # What is removed, is removed last, and parts before the whole.
    operations.sort(key=lambda one: -len(one[1]) if one[0] == "DELETE" else -1_000)
    for method, path, operation in operations:
        client = service.admin if operation["tags"] == ["security"] else ann
        request = _request(client, method, path, operation, ids)
        answer = client.send(request, stream=True)
        assert str(answer.status_code) in operation["responses"], operation["operationId"]
        assert answer.is_success, operation["operationId"]
        described = operation["responses"][str(answer.status_code)].get("content", {}).get("application/json")
        if described is not None:
            answer.read()
            schema = described["schema"] | {"components": document["components"]}
            Draft202012Validator(schema).validate(answer.json())
        answer.close()


def _made(document: dict[str, Any], admin: httpx.Client, ann: httpx.Client) -> dict[str, str]:
    """The ids in examples, with those of things that are there, made from the examples for making them."""
    ids: dict[str, str] = {}
    for client, path, example, name in (
        (ann, "/networks", NETWORK_ID, "network_id"),
        (ann, "/networks/{network_id}/agents", AGENT_ID, "agent_id"),
        (ann, "/networks/{network_id}/tasks", TASK_ID, "task_id"),
        (ann, "/networks/{network_id}/memory", MEMORY_ID, "memory_id"),
        (admin, "/security/api-keys", KEY_ID, "key_id"),
    ):
        answer = client.send(_request(client, "POST", path, document["paths"][path]["post"], ids))
        assert answer.status_code in {201, 202}, answer.text
        ids[example] = answer.json()[name]
    ann.patch(f"/networks/{ids[NETWORK_ID]}/agents/{ids[AGENT_ID]}", json={"agent_config": {"name": "Renamed"}})
    return ids


def _request(
    client: httpx.Client, method: str, path: str, operation: dict[str, Any], ids: dict[str, str]
) -> httpx.Request:
    parameters = operation["parameters"]
    in_ = {
        place: {one["name"]: one["example"] for one in parameters if one["in"] == place and "example" in one}
        for place in ("path", "query", "header")
    }
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    request = client.build_request(
        method,
        path.format(**in_["path"]),
        params=in_["query"],
        headers={name: str(value) for name, value in in_["header"].items()},
        json=body,
    )
    url, data = str(request.url), request.read().decode()
    for example, real in ids.items():
        url, data = url.replace(example, real), data.replace(example, real)
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
    return httpx.Request(method, url, headers=headers, content=data)


def test_schemathesis_finds_nothing(service: Service) -> None:
    """Longer, and with workers: `make fuzz`.  Here a generation could only wait for one in vain."""
    once = ["--max-examples", "3", "--generation-deterministic", "--exclude-operation-id", "generate.stream"]
    assert fuzz(service.url, service.admin_key, *once).returncode == 0
