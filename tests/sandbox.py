"""The stand-in provider as a real process, for tests of what calls models.

`from tests.sandbox import sandbox, sandbox_process` in a conftest makes the fixture `sandbox`; `start_sandbox` starts
one by hand.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import httpx
import jsonschema  # type: ignore[import-untyped]  # comes without types, by way of litellm
import pytest

STOP_SECONDS = 5.0
WAIT_SECONDS = 5.0


@dataclass
class Sandbox:
    """A running sandbox. `env` makes a mesh process use it."""

    url: str
    process: subprocess.Popen[str]

    @property
    def env(self) -> dict[str, str]:
        """The four addresses, made-up keys, and the leave to run without a real provider."""
        bases = self._get("/sandbox")["bases"]
        addresses = {f"{provider.upper()}_API_BASE": self.url + base for provider, base in bases.items()}
        return {**addresses, **{f"{provider.upper()}_API_KEY": "sandbox" for provider in bases}, "MESH_SANDBOX": "1"}

    def calls(self, **fields: object) -> list[dict[str, Any]]:
        """The calls so far, oldest first, that have these values: `calls(provider="groq", status=200)`."""
        calls: list[dict[str, Any]] = self._get("/sandbox/calls")
        return [call for call in calls if all(call[name] == value for name, value in fields.items())]

    def started(self, count: int) -> list[dict[str, Any]]:
        """All calls, as soon as there are `count`; fails after a few seconds."""
        return self._once(lambda calls: len(calls) >= count)

    def ended(self, count: int) -> list[dict[str, Any]]:
        """All calls, as soon as `count` of them have ended; fails after a few seconds."""
        return self._once(lambda calls: sum(call["ended_at"] is not None for call in calls) >= count)

    def summary(self) -> dict[str, Any]:
        """Counts of the calls so far."""
        summary: dict[str, Any] = self._get("/sandbox/calls?summary=1")
        return summary

    def clear(self) -> None:
        """Forget the calls so far."""
        self._http.delete("/sandbox/calls").raise_for_status()

    def fault(
        self, kind: str, *, times: int | None = None, probability: float = 1.0, **match: str | int | bool | list[int]
    ) -> None:
        """Add a rule: `fault("429;1", provider="openai", nth=2)`; `kind` may carry seconds behind a semicolon."""
        rule = {"match": match, "fault": kind, "times": times, "probability": probability}
        self._send("POST", "/sandbox/faults", [rule])

    def clear_faults(self) -> None:
        """Drop all rules."""
        self._http.delete("/sandbox/faults").raise_for_status()

    def latency(self, seconds: float, *, jitter: float = 0.0, chunk: float = 0.0) -> None:
        """Change the pace, in seconds: to the first byte, at random so much more, between chunks."""
        pace = {"latency_seconds": seconds, "jitter_seconds": jitter, "chunk_latency_seconds": chunk}
        self._send("PUT", "/sandbox/latency", pace)

    def stop(self) -> None:
        """End the process; harmless when it has ended."""
        self._http.close()
        self.process.terminate()
        try:
            self.process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @cached_property
    def _http(self) -> httpx.Client:
        """Kept, for making one takes 25 ms of CPU."""
        return httpx.Client(base_url=self.url, trust_env=False)

    def _once(self, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds(calls := self.calls()):
            assert time.monotonic() < deadline, calls
            time.sleep(0.01)
        return calls

    def _get(self, path: str) -> Any:  # noqa: ANN401  # any JSON value
        return self._http.get(path).raise_for_status().json()

    def _send(self, method: str, path: str, body: object) -> None:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, answer.text


def assert_valid(text: str, schema: dict[str, Any]) -> None:
    """Assert that `text` is JSON that fits `schema`."""
    jsonschema.validate(json.loads(text), schema)


def start_sandbox(**options: object) -> Sandbox:
    """Start `mesh sandbox` on a free port; options are its own: `start_sandbox(latency=0.1, faults=path)`."""
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "mesh.cli.sandbox", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("listening on "):
            return Sandbox(line.split()[-1], process)
    raise RuntimeError(f"the sandbox ended with {process.wait()} before it listened")


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """One sandbox for the whole session; tests take `sandbox`."""
    with start_sandbox() as running:
        yield running


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    """A sandbox without calls, faults and latency."""
    sandbox_process.clear()
    sandbox_process.clear_faults()
    sandbox_process.latency(0)
    return sandbox_process
