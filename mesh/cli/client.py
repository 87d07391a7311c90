"""The HTTP client of `mesh run` and `mesh demo`: networks, tasks, and a task's events whatever breaks meanwhile.

cli.run, cli.demo -> here -> the REST interface of a running system.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from mesh.errors import ConfigurationError, MeshError, UnavailableError
from mesh.security.loopback import is_loopback

BASE = "/api/mesh"
# A stream sends a heartbeat every 15 s: after two of them it is lost.
_STREAM_TIMEOUT = httpx.Timeout(10.0, read=30.0)
_PAUSE_SECONDS = (0.5, 5.0)  # before reconnecting: at first, and at most
_PATIENCE_SECONDS = 120.0

Event = dict[str, Any]


class RefusedError(MeshError):
    """The system answered, and said no; the message is its detail, with each fault that it names on a line."""

    code = "refused"


class _BrokenOffError(MeshError):
    """No answer, or half of one: asking again may help."""


class Client:
    """One system, and the key it is spoken to with (None: it asks for none)."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` is the system's root, `http://host:port`; `transport` and `sleep` are for tests.

        Raises:
            ConfigurationError: `url` is none.
        """
        try:
            parsed = httpx.URL(url.rstrip("/").removesuffix(BASE))
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{url!r} is not an address such as http://127.0.0.1:8080.") from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ConfigurationError(f"{url!r} is not an address such as http://127.0.0.1:8080.")
        self.base = f"{parsed}{BASE}"
        self._sleep = sleep
        headers = {"X-API-Key": key.strip()} if key else {}
        # No proxy leads to this machine itself.
        proxies = not is_loopback(parsed.host)
        self._http = httpx.Client(
            base_url=self.base, headers=headers, timeout=10.0, trust_env=proxies, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def create_network(self, name: str) -> str:
        """Make a network with the default agents; returns its id.

        Raises:
            UnavailableError: the system does not answer.
            RefusedError: it said no.
        """
        return str(self._once("POST", "/networks", {"name": name})["network_id"])

    def submit(self, network_id: str, task: str, context: Mapping[str, Any]) -> str:
        """Submit a task; returns its id.

        Raises:
            UnavailableError, RefusedError: as `create_network`.
        """
        answer = self._once("POST", f"/networks/{network_id}/tasks", {"task": task, "context": context})
        return str(answer["task_id"])

    def task(self, network_id: str, task_id: str) -> dict[str, Any]:
        """The task as it stands; asks again for a while when the system does not answer.

        Raises:
            UnavailableError, RefusedError: as `create_network`.
        """
        patience = self._patience(lambda _reason: None)
        while True:
            try:
                return self._ask("GET", f"/networks/{network_id}/tasks/{task_id}")
            except _BrokenOffError as error:
                patience.wait(error)

    def events(self, task_id: str, *, lost: Callable[[str], None]) -> Iterator[Event]:
        """Every event of the task, once and in order, to its `complete`; `event` in each names the kind.

        When the connection breaks, `lost` gets the reason and the stream is resumed where it was.

        Raises:
            UnavailableError: the system stayed away for two minutes.
            RefusedError: it said no.
        """
        patience = self._patience(lost)
        position: int | None = None
        while True:
            try:
                for event in self._stream(task_id, position):
                    patience.reset()
                    position = event["sequence"]
                    yield event
                    if event["event"] == "complete":
                        return
                patience.wait(None)  # the server is about to stop, and said so by ending the stream
            except _BrokenOffError as error:
                patience.wait(error)

    def _stream(self, task_id: str, position: int | None) -> Iterator[Event]:
        headers = {"Accept": "application/x-ndjson"}
        if position is not None:
            headers["Last-Event-ID"] = str(position)
        try:
            with self._http.stream(
                "GET", f"/tasks/{task_id}/events", headers=headers, timeout=_STREAM_TIMEOUT
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _no(answer)
                # An empty line is a heartbeat.
                yield from (json.loads(line) for line in answer.iter_lines() if line)
        except httpx.HTTPError as error:
            raise _BrokenOffError(_reason(error)) from error

    def _once(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._ask(method, path, body)
        except _BrokenOffError as error:
            raise self._away(error) from error

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise _BrokenOffError(_reason(error)) from error
        if not answer.is_success:
            raise _no(answer)
        return _object(answer)

    def _patience(self, lost: Callable[[str], None]) -> "_Patience":
        return _Patience(self._sleep, lost, self._away)

    def _away(self, error: MeshError) -> UnavailableError:
        return UnavailableError(
            f"{self.base.removesuffix(BASE)} does not answer ({error}). "
            "Start the system with `mesh up`, or say with --url where it is."
        )


class _Patience:
    """Pauses between tries, longer ones each time, until they add up to too much."""

    def __init__(
        self,
        sleep: Callable[[float], None],
        lost: Callable[[str], None],
        away: Callable[[MeshError], UnavailableError],
    ) -> None:
        self._sleep = sleep
        self._lost = lost
        self._away = away
        self.reset()

    def reset(self) -> None:
        """Somebody answered."""
        self._pause, self._waited = _PAUSE_SECONDS[0], 0.0

    def wait(self, error: MeshError | None) -> None:
        """Wait before the next try; tells of the first one that failed."""
        error = error or _BrokenOffError("the server ended the stream")
        if self._waited >= _PATIENCE_SECONDS:
            raise self._away(error) from error
        if not self._waited:
            self._lost(str(error))
        self._sleep(self._pause)
        self._waited += self._pause
        self._pause = min(2 * self._pause, _PAUSE_SECONDS[1])


def _no(answer: httpx.Response) -> MeshError:
    """What an answer that is no success means; a part that is down for a moment is no refusal."""
    try:
        problem = _object(answer)
        detail = str(problem["detail"])
        faults = [f"\n  {fault['pointer']}: {fault['detail']}" for fault in problem.get("errors", ())]
    except (RefusedError, KeyError, TypeError):
        return RefusedError(f"{answer.url} answered {answer.status_code}, but not as an AI Mesh Network does.")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return _BrokenOffError(detail)
    hint = " Give a key with --key or MESH_API_KEY." if answer.status_code == httpx.codes.UNAUTHORIZED else ""
    return RefusedError("".join([detail, hint, *faults]))


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(f"{answer.url} answered, but not as an AI Mesh Network does.")
    return body


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
