"""The sandbox as a process: pace under load, the record of calls, errors that teach, start and stop."""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox import Sandbox, start_sandbox

LATENCY = 0.5


async def _call(client: httpx.AsyncClient, base: str) -> float:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Write a text."}]}
    began = time.perf_counter()
    answer = await client.post(f"{base}/chat/completions", json=body, headers={"Authorization": "Bearer k"})
    answer.raise_for_status()
    return time.perf_counter() - began


def _calls(sandbox: Sandbox, count: int) -> list[float]:
    base = sandbox.env["OPENAI_API_BASE"]

    async def all_at_once() -> list[float]:
        limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            return await asyncio.gather(*(_call(client, base) for _ in range(count)))

    return asyncio.run(all_at_once())


def test_latency_holds_with_200_calls_at_once(sandbox: Sandbox) -> None:
    """Measured by the sandbox's own clock, since 200 clients in one process are late themselves."""
    sandbox.latency(LATENCY)
    _calls(sandbox, 200)
    took = [call["ended_at"] - call["started_at"] for call in sandbox.ended(200)]
    assert min(took) > LATENCY - 0.1
    assert statistics.median(took) < LATENCY + 0.1


def test_jitter_comes_on_top_of_latency(sandbox: Sandbox) -> None:
    sandbox.latency(0.05, jitter=0.2)
    took = _calls(sandbox, 20)
    assert min(took) >= 0.05
    assert max(took) - min(took) > 0.05


def test_the_summary_counts_what_the_list_holds(sandbox: Sandbox) -> None:
    _calls(sandbox, 3)
    sandbox.fault("500", times=1)
    with pytest.raises(httpx.HTTPStatusError):
        _calls(sandbox, 1)
    summary = sandbox.summary()
    assert (summary["calls"], summary["open"], summary["per_status"]) == (4, 0, {"200": 3, "500": 1})
    assert summary["completion_tokens"] == sum(call["completion_tokens"] for call in sandbox.calls())
    sandbox.clear()
    assert sandbox.calls() == []


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def _send_and_keep(sandbox: Sandbox) -> socket.socket:
    """Send a call and leave its connection open."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    host, _, port = sandbox.url.removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\nContent-Length: {len(body)}"
    connection.sendall(f"{head}\r\n\r\n{body}".encode())
    return connection


def test_the_log_outlives_a_kill(tmp_path: Path) -> None:
    """A finished call has both its lines, one in flight its first."""
    log = tmp_path / "calls.jsonl"
    with start_sandbox(log=log) as sandbox:
        _calls(sandbox, 1)
        sandbox.latency(30)
        with _send_and_keep(sandbox):
            sandbox.started(2)
            sandbox.process.kill()
            sandbox.process.wait()
    assert [(line["event"], line["n"]) for line in _lines(log)] == [("start", 1), ("end", 1), ("start", 2)]


@pytest.mark.parametrize(
    ("path", "shape"), [("/anthropic/v1/complete", "type"), ("/openai/v1/moderations", "error"), ("/else", "error")]
)
def test_an_unknown_path_is_a_404_that_names_the_known_ones(path: str, shape: str, sandbox: Sandbox) -> None:
    answer = httpx.post(sandbox.url + path)
    assert answer.status_code == 404
    assert shape in answer.json()
    assert "/anthropic/v1/messages" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": [1], "model": "m"}', b'{"model": "m"}'])
def test_a_request_that_cannot_be_read_is_a_400(body: bytes, sandbox: Sandbox) -> None:
    url = f"{sandbox.env['OPENAI_API_BASE']}/chat/completions"
    answer = httpx.post(url, content=body, headers={"Authorization": "Bearer k"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_call_without_a_key_is_a_401(sandbox: Sandbox) -> None:
    assert httpx.post(f"{sandbox.env['OPENAI_API_BASE']}/chat/completions", json={}).status_code == 401


def test_a_hanging_call_does_not_hold_up_the_stop() -> None:
    with start_sandbox(latency=60) as sandbox, _send_and_keep(sandbox):
        sandbox.started(1)
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 3
        assert sandbox.process.returncode == 0


def test_a_taken_port_is_named(sandbox: Sandbox) -> None:
    port = sandbox.url.rpartition(":")[2]
    ended = subprocess.run(
        [sys.executable, "-m", "mesh.cli.sandbox", "--port", port],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in ended.stderr


def test_a_faults_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('{"faults": [{"fault": "explode"}]}', "utf-8")
    command = [sys.executable, "-m", "mesh.cli.sandbox", "--port", "0", "--faults", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 1
    assert "There is no fault of this kind" in ended.stderr
