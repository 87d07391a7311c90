"""A whole system from outside, for tests: `mesh up` or single parts as processes, and a client that does not give up.

`with mesh_up(home) as up:` starts everything; `up.kill("worker")` strikes one part, `up.rows(...)` looks into its
database, `up.client` is the REST interface as a patient program uses it.  Linux only: processes are found in /proc.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import httpx
from sqlalchemy import Row, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from mesh.embedded.process import free_port

PATIENCE_SECONDS = 30.0

Part = Literal["api", "worker", "worker-control", "beat", "valkey", "postgres", "sandbox"]

# What tells a part's process by its command line, once it has become what it is.
_MARKS: Mapping[Part, str] = {
    "api": "api.server",
    "worker": '"control": false',
    "worker-control": '"control": true',
    "beat": "workers.beat",
    "valkey": "valkey-server",
    "postgres": "/postgres -D",
    "sandbox": "mesh sandbox",
}


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS, *, every: float = 0.1) -> float:
    """Wait until `condition` holds; answers how long that took, and fails after `seconds`."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(every)
    return time.monotonic() - begun


def processes(ancestor: int) -> dict[int, str]:
    """The processes under `ancestor`, each with its command line."""
    table = _process_table()
    found = {ancestor}
    while grown := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= grown
    return {pid: table[pid][1] for pid in found - {ancestor}}


def running(pids: Sequence[int] | Mapping[int, str]) -> list[int]:
    """Those of `pids` that are still there."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _process_table() -> dict[int, tuple[int, str]]:
    rows = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    return {int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in rows.splitlines())}


def clean_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the service's settings, and with `variables`."""
    settings = ("MESH_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GROQ_")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)} | dict(variables or {})


@contextmanager
def part(*arguments: str, log: Path, variables: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """One part by itself, `mesh <arguments>`, its output appended to `log`; killed at the end if it still runs."""
    command = [sys.executable, "-m", "mesh", *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=clean_environment(variables))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Event:
    """A server-sent event of a task's stream."""

    number: int
    kind: str
    data: dict[str, Any]


class Client:
    """The REST interface as a patient program uses it: what breaks off or is answered 503 is asked again.

    A POST whose answer was lost may so be done twice.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/mesh", timeout=10, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  # any JSON value
        """The answer's JSON; fails on any status of 400 and above but 503, and when patience ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._http.request(method, path, json=body)
                if answer.status_code != 503:
                    assert answer.is_success, f"{answer.status_code} {answer.text}"
                    return answer.json()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, f"{method} {path}: unavailable"
            time.sleep(0.1)

    def network(self, **fields: object) -> str:
        """Make a network; its id."""
        return str(self.ask("POST", "/networks", {"name": "test", **fields})["network_id"])

    def submit(self, network_id: str, task: str = "Write a short e-mail.", **fields: object) -> str:
        """Submit a task; its id."""
        return str(self.ask("POST", f"/networks/{network_id}/tasks", {"task": task, **fields})["task_id"])

    def task(self, network_id: str, task_id: str) -> dict[str, Any]:
        """The task as it is now."""
        found: dict[str, Any] = self.ask("GET", f"/networks/{network_id}/tasks/{task_id}")
        return found

    def ended(self, network_id: str, task_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The task, as soon as it has ended."""
        eventually(lambda: self.task(network_id, task_id)["finished_at"], seconds, every=0.2)
        return self.task(network_id, task_id)

    def follow(self, task_id: str) -> Iterator[Event]:
        """The task's events to their end, as a browser's EventSource brings them: reconnecting with the last number."""
        last: int | None = None
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while True:
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            try:
                with self._http.stream("GET", f"/tasks/{task_id}/events", headers=headers) as answer:
                    if answer.status_code == 204:
                        return
                    assert answer.status_code in (200, 503), answer.read()
                    for event in events_of(answer.iter_lines()):
                        last = event.number
                        yield event
            except httpx.TransportError:
                assert time.monotonic() < deadline, f"the stream of {task_id} does not end"
            time.sleep(0.2)


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events out of lines; an event that was cut off before its blank line is none (WHATWG HTML, 9.2.6)."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line and "data" in fields and "id" in fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        if not line:
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


@dataclass
class Up:
    """A running `mesh up`, and what it printed."""

    process: "subprocess.Popen[str]"
    client: Client
    home: Path
    printed: str = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.client.url

    def health(self) -> object:
        """The status that it gives itself; None when it does not answer."""
        try:
            return httpx.get(f"{self.url}/api/mesh/health", timeout=2, trust_env=False).json()["status"]
        except httpx.HTTPError:
            return None

    def pid(self, part: Part) -> int | None:
        """The process that is `part` at present; of the API, the one that supervises those that answer."""
        for pid, (parent, command) in _process_table().items():
            if parent == self.process.pid and _MARKS[part] in command:
                return pid
        return None

    def kill(self, part: Part, *, whole: bool = False) -> int:
        """Kill (-9) the process of `part`, or, `whole`, that and all of its group at once; answers its pid."""
        eventually(lambda: self.pid(part))
        pid = self.pid(part)
        assert pid, f"{part} has just died by itself"
        (os.killpg if whole else os.kill)(pid, signal.SIGKILL)
        return pid

    @cached_property
    def redis_url(self) -> str:
        """Its Valkey."""
        return self._setting("MESH_REDIS_URL")

    @cached_property
    def database_url(self) -> str:
        """Its Postgres."""
        return self._setting("MESH_DATABASE_URL")

    def rows(self, query: str, **values: object) -> Sequence[Row[Any]]:
        """What its database says, asked again while that is away."""
        engine = create_engine(self.database_url, poolclass=NullPool)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with engine.connect() as connection:
                    return connection.execute(text(query), values).all()
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _setting(self, name: str) -> str:
        """A setting as its parts were given it."""
        eventually(lambda: self.pid("beat"))
        pid = self.pid("beat")
        assert pid, "beat has just died by itself"
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        return next(value for key, _, value in (each.partition("=") for each in variables) if key == name)


@contextmanager
def mesh_up(home: Path, variables: Mapping[str, str] | None = None, *, concurrency: int = 4) -> Iterator[Up]:
    """Start `mesh up` with nothing configured but `variables`, and kill it at the end, which must leave nothing."""
    port = free_port()
    options = ["--home", str(home), "--port", str(port), "--concurrency", str(concurrency)]
    command = [sys.executable, "-m", "mesh", "up", *options]
    with (
        Client(f"http://127.0.0.1:{port}") as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment(variables)) as started,
    ):
        up = Up(started, client, home)
        try:
            assert started.stdout is not None
            while "Ctrl-C" not in up.printed:
                line = started.stdout.readline()
                assert line, f"ended early: {up.printed}"
                up.printed += line
            yield up
        finally:
            children = processes(started.pid)
            started.kill()
            started.wait()
            eventually(lambda: not running(children))
