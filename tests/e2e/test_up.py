"""`mesh up` from outside: one command starts everything, and nothing is left of it."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mesh.embedded.process import free_port
from tests.chaos.evidence import assert_no_success_was_repeated, assert_the_books_are_right, collect
from tests.sandbox import start_sandbox
from tests.system import Part, Up, eventually, mesh_up, processes, running

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("e2e-up")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests that leave it healthy."""
    with mesh_up(tmp_path_factory.mktemp("system") / "home") as up:
        yield up


def test_what_it_prints_works_as_pasted(system: Up) -> None:
    assert system.health() == "healthy"
    curl = next(line.strip() for line in system.printed.splitlines() if line.strip().startswith("curl "))
    answer = subprocess.run([*shlex.split(curl), "--silent"], capture_output=True, text=True, check=True).stdout
    assert '"network_id"' in answer
    key = re.search(r"Admin key +(\S+)", system.printed)
    assert key is not None
    keys = f"{system.url}/api/mesh/security/api-keys"
    assert httpx.get(keys, headers={"X-API-Key": key[1]}, trust_env=False).status_code == 200
    assert (system.home / "admin-key").read_text().strip() == key[1]
    assert (system.home / "admin-key").stat().st_mode & 0o777 == 0o600


def assert_stops(up: Up, by: signal.Signals) -> None:
    """It ends with exit code 0, and none of its processes is left."""
    children = processes(up.process.pid)
    assert len(children) > 10
    up.process.send_signal(by)
    assert up.process.wait(timeout=40) == 0
    assert running(children) == []


def test_nothing_is_left_when_it_is_killed_and_the_next_start_goes_on_with_the_work(tmp_path: Path) -> None:
    """What had succeeded before is not paid again.  In the end it stops by SIGTERM, as under a service manager."""
    home = tmp_path / "home"
    with start_sandbox(latency=1.0) as sandbox:
        with mesh_up(home, sandbox.env) as up:
            children = processes(up.process.pid)
            network_id = up.client.network()
            task_id = up.client.submit(network_id)
            sandbox.started(5)  # the plan is made, the four specialists are at work
            up.process.kill()
            up.process.wait()
            eventually(lambda: not running(children))
        cut = {call["call"] for call in sandbox.calls()[1:]}
        with mesh_up(home, sandbox.env) as up:
            assert up.client.ended(network_id, task_id, 60)["status"] == "completed"
            evidence = collect(up, sandbox)
            assert_stops(up, signal.SIGTERM)
    assert_the_books_are_right(evidence)
    assert_no_success_was_repeated(evidence, cut)


@pytest.mark.parametrize("part", ["postgres", "valkey", "sandbox", "api", "worker", "worker-control", "beat"])
def test_a_part_that_is_killed_comes_back(system: Up, part: Part) -> None:
    victim = system.kill(part)
    eventually(lambda: system.pid(part) not in (victim, None) and system.health() == "healthy")


def test_a_second_one_in_the_same_home_ends_with_one_line(system: Up) -> None:
    command = [sys.executable, "-m", "mesh", "up", "--home", str(system.home), "--port", str(free_port())]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"pid {system.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1


def test_two_stand_side_by_side_and_ctrl_c_stops_all_of_one_and_nothing_of_the_other(
    system: Up, tmp_path: Path
) -> None:
    with mesh_up(tmp_path / "home") as second:
        for up, other in ((system, second), (second, system)):
            network_id = up.client.network(name=f"of {up.url}")
            assert up.client.ended(network_id, up.client.submit(network_id))["status"] == "completed"
            names = [network["name"] for network in other.client.ask("GET", "/networks")["items"]]
            assert f"of {up.url}" not in names
        assert_stops(second, signal.SIGINT)
        assert system.health() == "healthy"
