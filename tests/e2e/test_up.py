"""`mesh up` from outside: one command starts everything, and nothing is left of it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mesh.embedded.process import free_port

pytestmark = pytest.mark.timeout(300)


@dataclass
class Up:
    """A running `mesh up` and what it printed."""

    process: subprocess.Popen[str]
    url: str
    printed: str
    home: Path

    def health(self) -> object:
        try:
            return httpx.get(f"{self.url}/api/mesh/health", timeout=2, trust_env=False).json()["status"]
        except httpx.HTTPError:
            return None


@contextmanager
def mesh_up(home: Path, **variables: str) -> Iterator[Up]:
    """Start it with nothing configured but `variables`; when the test is over, none of it may be left."""
    settings = ("MESH_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GROQ_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(settings)} | variables
    port = free_port()
    command = [sys.executable, "-m", "mesh", "up", "--home", str(home), "--port", str(port), "--concurrency", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "Ctrl-C" not in printed:
                line = process.stdout.readline()
                assert line, f"ended early: {printed}"
                printed += line
            yield Up(process, f"http://127.0.0.1:{port}", printed, home)
        finally:
            process.kill()


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def processes(ancestor: int) -> dict[int, str]:
    """The processes under `ancestor`, each with its command line."""
    rows = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    table = {int(pid): (int(parent), args) for pid, parent, args in (row.split(None, 2) for row in rows.splitlines())}
    found = {ancestor}
    while grown := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= grown
    return {pid: table[pid][1] for pid in found - {ancestor}}


def running(pids: dict[int, str]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_what_it_prints_works_as_pasted(tmp_path: Path) -> None:
    with mesh_up(tmp_path / "home") as up:
        assert up.health() == "healthy"
        curl = next(line.strip() for line in up.printed.splitlines() if line.strip().startswith("curl "))
        answer = subprocess.run([*shlex.split(curl), "--silent"], capture_output=True, text=True, check=True).stdout
        assert '"network_id"' in answer
        key = re.search(r"Admin key +(\S+)", up.printed)
        assert key is not None
        audit = f"{up.url}/api/mesh/security/audit-logs"
        assert httpx.get(audit, headers={"X-API-Key": key[1]}, trust_env=False).status_code == 200
        assert (up.home / "admin-key").read_text().strip() == key[1]
        assert (up.home / "admin-key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_everything_with_exit_code_0(tmp_path: Path, stop: signal.Signals) -> None:
    with mesh_up(tmp_path / "home") as up:
        children = processes(up.process.pid)
        assert len(children) > 10
        up.process.send_signal(stop)
        assert up.process.wait(timeout=40) == 0
        assert running(children) == []


def test_nothing_is_left_when_it_is_killed_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mesh_up(home) as up:
        children = processes(up.process.pid)
        made = httpx.post(f"{up.url}/api/mesh/networks", json={"name": "kept"}, trust_env=False).json()
        up.process.kill()
        up.process.wait()
        eventually(lambda: not running(children))
    with mesh_up(home) as up:
        network = httpx.get(f"{up.url}/api/mesh/networks/{made['network_id']}", trust_env=False).json()
        assert network["name"] == "kept"


@pytest.mark.parametrize("part", ["/postgres -D", "valkey-server", "mesh api", "mesh worker --control", "mesh beat"])
def test_a_part_that_is_killed_comes_back(tmp_path: Path, part: str) -> None:
    with mesh_up(tmp_path / "home") as up:
        victims = {pid for pid, command in processes(up.process.pid).items() if part in command}
        assert victims
        os.kill(min(victims), signal.SIGKILL)
        eventually(lambda: min(victims) not in processes(up.process.pid))
        eventually(
            lambda: any(part in command for command in processes(up.process.pid).values()) and up.health() == "healthy"
        )


def test_a_second_one_in_the_same_home_ends_with_one_line(tmp_path: Path) -> None:
    with mesh_up(tmp_path / "home") as up:
        command = [sys.executable, "-m", "mesh", "up", "--home", str(up.home), "--port", str(free_port())]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"pid {up.process.pid}" in second.stderr
        assert second.stderr.count("\n") == 1
