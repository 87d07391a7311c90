"""What cannot be read as a request, or as the body of one, is a problem too, and leaves nothing behind."""

import json
import re

import pytest

from tests.integration.api.conftest import Service, key_of
from tests.wire import answer_to

MARKER = b"sesame-open"


def test_what_the_server_itself_refuses_is_a_problem_that_repeats_nothing(service: Service) -> None:
    host = b"Host: x\r\n"
    requests = {
        b"GET / " + MARKER + b" HTTP/1.1\r\n" + host + b"\r\n": 400,
        b"GET / HTTP/1.1\r\n" + host + MARKER + b" : x\r\n\r\n": 400,
        b"GET /" + b"x" * 8_200 + b" HTTP/1.1\r\n" + host + b"\r\n": 414,
        b"GET / HTTP/1.1\r\n" + host + b"X: " + b"x" * 9_000 + b"\r\n\r\n": 431,
        b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 2\r\nExpect: " + MARKER + b"\r\n\r\n{}": 417,
    }
    ids = []
    for request, status in requests.items():
        answered, headers, body = answer_to(service.url, request)
        assert (answered, headers["content-type"]) == (status, "application/problem+json"), request[:60]
        problem = json.loads(body)
        assert (problem["status"], problem["request_id"]) == (status, headers["x-request-id"])
        assert MARKER not in body
        ids.append(problem["request_id"])
    network_id = service.admin.post("/networks", json={"name": "x"}).json()["network_id"]
    long = service.admin.get(f"/networks/{network_id}/memory", params={"query": "ж" * 1_000})
    assert long.status_code == 200, long.text
    service.stack.close()  # only then all of the log is there
    log = service.log.read_text()
    assert all(request_id in log for request_id in ids)


@pytest.mark.parametrize("more", [b"", b"Idempotency-Key: k\r\n"], ids=["once", "repeatable"])
def test_a_malformed_chunk_is_400_and_the_end_of_the_connection(service: Service, more: bytes) -> None:
    head = f"POST /api/mesh/networks HTTP/1.1\r\nHost: x\r\nX-API-Key: {key_of(service.admin)}\r\n".encode() + more
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, body = answer_to(service.url, head + b"zz\r\n{}\r\n0\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (400, "malformed_request")


def test_nothing_of_a_body_that_is_too_large_is_taken_for_a_request(service: Service) -> None:
    """And what follows it on the connection is."""
    head = f"POST /api/mesh/networks HTTP/1.1\r\nHost: x\r\nX-API-Key: {key_of(service.admin)}\r\n".encode()
    head += b"Content-Type: application/json\r\n"
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n" * 40_000
    announced = b"Content-Length: %d\r\n\r\n%b" % (len(hidden), hidden)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    following = b"GET /api/mesh/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for body in (announced, chunked):
        status, _, rest = answer_to(service.url, head + body + following)
        assert (status, re.findall(rb"HTTP/1\.1 (\d+)", rest)) == (413, [b"200"])


def test_a_bad_position_is_refused_before_a_task_is_stored_and_of_no_account_for_a_new_one(service: Service) -> None:
    network = f"/networks/{service.admin.post('/networks', json={'name': 'x'}).json()['network_id']}"
    task = {"task": "x", "auto_process": False}
    for position in ("abc", "9" * 20):
        headers = {"Idempotency-Key": f"bad{position}", "Last-Event-ID": position}
        assert service.admin.post(f"{network}/tasks/stream", json=task, headers=headers).status_code == 400
    assert service.admin.get(f"{network}/tasks").json()["items"] == []
    headers = {"Idempotency-Key": "k", "Last-Event-ID": "5"}
    with service.admin.stream("POST", f"{network}/tasks/stream", json=task, headers=headers) as answer:
        assert answer.status_code == 200
        task_id = answer.headers["Location"].rsplit("/", 1)[1]
    # Ended, it has nothing to tell to who has seen all of it, and asks again.
    assert service.admin.post(f"{network}/tasks/{task_id}/cancel").status_code == 200
    headers["Last-Event-ID"] = "9"
    assert service.admin.post(f"{network}/tasks/stream", json=task, headers=headers).status_code == 204


def test_a_key_that_cannot_be_one_is_404(service: Service) -> None:
    for name in ("%00", "a%00b", "key_%00", "key_" + "0" * 26):
        assert service.admin.delete(f"/security/api-keys/{name}").status_code == 404, name
