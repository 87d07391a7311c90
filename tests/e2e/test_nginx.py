"""Everything that streams, through nginx set up by deploy/nginx.conf."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # comes without types, by way of litellm

from api.errors import problem
from api.schemas.problems import Problem
from tests.e2e.site import Site
from tests.system import Event, events_of, eventually
from tests.wire import answer_to

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("e2e-site")]

FOREVER_SECONDS = 60.0
NDJSON = {"Accept": "application/x-ndjson"}


@contextmanager
def open_(site: Site, method: str, path: str, **sent: Any) -> Iterator[httpx.Response]:  # noqa: ANN401  # httpx's own
    url = f"{site.proxy.url}/api/mesh{path}"
    with httpx.stream(method, url, timeout=10, trust_env=False, **sent) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer


def test_events_arrive_while_nothing_else_happens(site: Site) -> None:
    """A proxy that held anything back would do so for as long as the model thinks."""
    site.sandbox.latency(FOREVER_SECONDS)
    network_id = site.proxy.network()
    task_id = site.proxy.submit(network_id, auto_process=False)
    task = f"/networks/{network_id}/tasks/{task_id}"
    with open_(site, "GET", f"/tasks/{task_id}/events") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["retry: 2000", ": stream", ""]
        site.proxy.ask("POST", f"{task}/process")
        events = events_of(lines)
        assert [next(events).kind for _ in range(2)] == ["started", "step_started"]
        site.proxy.ask("POST", f"{task}/cancel")
        assert [event.kind for event in events][-1] == "complete"


def test_a_stream_is_resumed_with_the_last_number(site: Site) -> None:
    network_id = site.proxy.network()
    task_id = site.proxy.submit(network_id)
    path, events = f"/tasks/{task_id}/events", list[Event]()
    with open_(site, "GET", path) as answer:
        first = events_of(answer.iter_lines())
        events += [next(first) for _ in range(3)]
    with open_(site, "GET", path, headers={"Last-Event-ID": "3"}) as answer:
        events += events_of(answer.iter_lines())
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[-1].kind == "complete"
    past = httpx.get(site.proxy.url + "/api/mesh" + path, headers={"Last-Event-ID": str(len(events))}, trust_env=False)
    assert past.status_code == 204


def test_lines_of_json_are_what_the_document_says_and_what_server_sent_events_carry(site: Site) -> None:
    """The stream of a submission, with tokens, a fallback and a step that is tried again."""
    site.sandbox.latency(0, chunk=0.01)
    site.sandbox.fault("529", provider="anthropic", times=1)
    network_id = site.proxy.network()
    path = f"/networks/{network_id}/tasks/stream"
    with open_(site, "POST", path, json={"task": "Write a text."}, headers=NDJSON) as answer:
        task_id = answer.headers["Location"].rpartition("/")[2]
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    wanted = documented(site, "/networks/{network_id}/tasks/stream", "post")
    assert [list(wanted.iter_errors(line)) for line in lines if not wanted.is_valid(line)] == []
    kinds = {line["event"] for line in lines}
    assert {"started", "plan", "fallback", "step_completed", "token", "memory", "result", "complete"} <= kinds
    assert not wanted.is_valid(lines[0] | {"run": "first"}), "the document refuses what is wrong"
    stored = [line for line in lines if line["event"] != "token"]
    assert [line["sequence"] for line in stored] == list(range(1, len(stored) + 1))
    with open_(site, "GET", f"/tasks/{task_id}/events") as answer:
        again = [{"event": event.kind, **event.data} for event in events_of(answer.iter_lines())]
    assert again == stored


def documented(site: Site, path: str, method: str) -> Draft202012Validator:
    """The schema of a line of the stream, as the interface's own document has it."""
    document = site.proxy.ask("GET", "/openapi.json")
    content = document["paths"][path][method]["responses"]["200"]["content"]
    schema = content["application/x-ndjson"]["schema"]
    return Draft202012Validator(schema | {"components": document["components"]})


def test_a_caller_that_hangs_up_on_nginx_stops_a_generation(site: Site) -> None:
    """So text comes as it is made, and the API hears of a caller that it has no connection to."""
    site.sandbox.latency(0, chunk=0.3)
    with open_(site, "POST", "/generate/stream", json={"prompt": "A slogan."}, headers=NDJSON) as answer:
        lines = (json.loads(line) for line in answer.iter_lines() if line)
        first = list(islice(lines, 2))
        assert [line["event"] for line in first] == ["start", "token"], first
        assert site.sandbox.calls()[0]["ended_at"] is None, "its text is complete already"
    [call] = site.sandbox.ended(1)
    assert call["disconnected"]


def test_a_generation_comes_whole(site: Site) -> None:
    """As the document's own example asks for it."""
    operation = site.proxy.ask("GET", "/openapi.json")["paths"]["/generate/stream"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["example"]
    with open_(site, "POST", "/generate/stream", json=asked, headers=NDJSON) as answer:
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    wanted = documented(site, "/generate/stream", "post")
    assert all(wanted.is_valid(line) for line in lines)
    assert [lines[0]["event"], lines[1]["event"], lines[-1]["event"]] == ["start", "token", "complete"]


def test_while_no_api_answers_browsers_are_told_to_come_back_and_all_others_that_it_is_away(site: Site) -> None:
    """And nothing that is secret is written down, whatever fails."""
    secret, address = "s3cr3t", f"{site.proxy.url}/api/mesh"
    with site.without_api():
        events = f"{address}/tasks/task_{'0' * 26}/events?ticket={secret}"
        browser = httpx.get(events, headers={"Accept": "text/event-stream"}, trust_env=False)
        program = httpx.get(events, headers={"Accept": "*/*"}, trust_env=False)
        removal = httpx.delete(f"{address}/security/api-keys/ann.1.{secret}", trust_env=False)
    assert (browser.status_code, browser.text) == (200, "retry: 2000\n\n")
    assert browser.headers["Content-Type"] == "text/event-stream"
    for answer in (program, removal):
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json().keys() == Problem.model_fields.keys() - {"errors"}
    eventually(lambda: "/security/api-keys/... 503" in site.logged(), every=0.02)
    assert secret not in site.logged()


def test_what_nginx_refuses_by_itself_is_refused_in_the_words_of_the_api(site: Site) -> None:
    """Byte by byte on the wire, since no client sends most of these."""
    host = b"Host: x\r\nConnection: close\r\n"
    requests = {
        b"GET / sesame HTTP/1.1\r\n" + host + b"\r\n": 400,
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n": 400,
        b"TRACE /api/mesh/networks HTTP/1.1\r\n" + host + b"\r\n": 405,
        b"POST /api/mesh/networks HTTP/1.1\r\n" + host + b"Content-Length: 1000001\r\n\r\n": 413,
        b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n" + host + b"\r\n": 414,
        b"GET / HTTP/1.1\r\n" + host + b"X: " + b"x" * 9_000 + b"\r\n\r\n": 431,
        b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: gzip\r\n\r\n": 501,
        b"GET / HTTP/3.0\r\n" + host + b"\r\n": 505,
    }
    for request, status in requests.items():
        answered, headers, body = answer_to(site.proxy.url, request)
        said = json.loads(body)
        assert (answered, said) == (status, problem(status, headers["x-request-id"]).json), request[:60]
        assert (headers["content-type"], headers["cache-control"]) == ("application/problem+json", "no-store")
        assert ("allow" in headers) == (status == 405)
        assert "retry-after" not in headers
    eventually(lambda: said["request_id"] in site.logged(), every=0.02)
    assert "sesame" not in site.logged()
