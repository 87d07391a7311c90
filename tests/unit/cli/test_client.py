"""The commands' HTTP client: what it says when things fail, and that a stream survives."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from mesh.cli.client import Client, RefusedError
from mesh.errors import ConfigurationError, UnavailableError

URL = "http://mesh.test:8080"
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, *, key: str | None = None, pauses: list[float] | None = None) -> Client:
    return Client(URL, key, transport=httpx.MockTransport(handler), sleep=(pauses if pauses is not None else []).append)


def problem(status: int, **fields: object) -> httpx.Response:
    body = {"detail": "No.", **fields}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


class Cut(httpx.SyncByteStream):
    """A body that sends `lines` and then breaks off, or ends if not `broken`."""

    def __init__(self, lines: list[dict[str, object]], *, broken: bool = True) -> None:
        self._lines = lines
        self._broken = broken

    def __iter__(self) -> Iterator[bytes]:
        yield b"\n"
        for line in self._lines:
            yield json.dumps(line).encode() + b"\n"
        if self._broken:
            yield b'{"event": "half of a li'
            raise httpx.RemoteProtocolError("peer closed connection")


def numbered(*kinds: str, first: int = 1) -> list[dict[str, object]]:
    return [{"event": kind, "sequence": number} for number, kind in enumerate(kinds, first)]


@pytest.mark.parametrize("url", ["", "mesh.test", "ftp://mesh.test", "http://", "8080"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://127"):
        Client(url)


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/api/mesh", f"{URL}/api/mesh/"])
def test_the_base_path_may_be_given_or_left_out(url: str) -> None:
    assert Client(url).base == f"{URL}/api/mesh"


def test_the_key_is_sent_with_every_request() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["X-API-Key"] == "user.1.token"
        return httpx.Response(201, json={"network_id": "network_1"})

    assert client(answer, key="user.1.token\n").create_network("x") == "network_1"


def test_nobody_there_says_how_to_start_and_how_to_point_elsewhere() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(UnavailableError) as error:
        client(refuse).create_network("x")
    assert all(part in str(error.value) for part in (URL, "mesh up", "--url"))
    assert "\n" not in str(error.value)


def test_a_problem_is_shown_with_each_fault_that_it_names() -> None:
    faults = [{"pointer": "/task", "code": "x", "detail": "is empty"}, {"pointer": "/a", "code": "x", "detail": "b"}]
    with pytest.raises(RefusedError) as error:
        client(lambda _: problem(422, detail="Not so.", errors=faults)).submit("n", "", {})
    assert str(error.value).splitlines() == ["Not so.", "  /task: is empty", "  /a: b"]


def test_without_credentials_it_says_where_a_key_goes() -> None:
    with pytest.raises(RefusedError, match="MESH_API_KEY"):
        client(lambda _: problem(401)).create_network("x")


@pytest.mark.parametrize("status", [200, 404, 502])
def test_another_program_at_that_address_is_told_apart(status: int) -> None:
    with pytest.raises(RefusedError, match="not as an AI Mesh Network"):
        client(lambda _: httpx.Response(status, html="<h1>Hello</h1>")).create_network("x")


def test_a_broken_stream_is_resumed_where_it_was_without_gap_or_duplicate() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        if len(asked) == 1:
            return httpx.Response(200, stream=Cut(numbered("started", "plan")))
        if len(asked) == 2:
            raise httpx.ConnectError("Connection refused", request=request)
        if len(asked) == 3:
            return problem(503)
        if len(asked) == 4:  # a server that stops ends its streams cleanly
            return httpx.Response(200, stream=Cut(numbered("memory", first=3), broken=False))
        return httpx.Response(200, stream=Cut(numbered("complete", first=4), broken=False))

    pauses: list[float] = []
    lost: list[str] = []
    events = list(client(answer, pauses=pauses).events("task_1", lost=lost.append))
    assert [event["sequence"] for event in events] == [1, 2, 3, 4]
    assert asked == [None, "2", "2", "2", "3"]
    assert pauses == [0.5, 1.0, 2.0, 0.5]
    assert len(lost) == 2


def test_a_system_that_stays_away_ends_the_watch() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    pauses: list[float] = []
    with pytest.raises(UnavailableError, match="does not answer"):
        list(client(refuse, pauses=pauses).events("task_1", lost=lambda _: None))
    assert 100 < sum(pauses) < 140
    assert max(pauses) == 5.0


def test_a_task_that_is_not_ours_ends_the_watch_at_once() -> None:
    pauses: list[float] = []
    watched = client(lambda _: problem(404, detail="There is no such task."), pauses=pauses)
    with pytest.raises(RefusedError, match="no such task"):
        list(watched.events("task_1", lost=lambda _: None))
    assert pauses == []


def test_the_task_is_asked_for_again_while_a_part_is_down() -> None:
    answers = iter([problem(503), httpx.Response(200, json={"status": "completed"})])
    assert client(lambda _: next(answers)).task("n", "t") == {"status": "completed"}
