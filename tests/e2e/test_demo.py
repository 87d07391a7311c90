"""`mesh demo` from outside: one command shows a finished campaign, and nothing is left of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system import clean_environment, eventually, mesh_up, processes, running

COLD_SECONDS = 90
WARM_SECONDS = 20

pytestmark = pytest.mark.timeout(240)


def start(home: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mesh", "demo"]
    env = clean_environment({"MESH_HOME": str(home)})
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def seconds(limit: float) -> float:
    """`limit` as it is on a machine that also does other things, such as other tests."""
    return limit * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_it_shows_a_finished_campaign_beside_a_running_system_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mesh_up(home) as up, start(home) as demo:
        began = time.monotonic()
        eventually(lambda: len(processes(demo.pid)) > 5, COLD_SECONDS, every=0.05)
        children = processes(demo.pid)
        campaign, progress = demo.communicate(timeout=COLD_SECONDS)
        assert demo.returncode == 0, progress
        assert time.monotonic() - began < seconds(COLD_SECONDS)
        assert running(children) == []
        assert up.health() == "healthy"
    for part in ("TechPro X1", "AI code completion", "Subject lines"):
        assert part in campaign
    for part in ("6 steps", "6 model calls", "tokens", "$", "sandbox", "make run", "Coordinator Agent"):
        assert part in progress

    began = time.monotonic()
    with start(home) as again:
        again.communicate(timeout=COLD_SECONDS)
    assert again.returncode == 0
    assert time.monotonic() - began < seconds(WARM_SECONDS)


@pytest.mark.parametrize(("moment", "stop"), [("Starting", signal.SIGINT), ("Coordinator Agent", signal.SIGTERM)])
def test_stopped_at_any_moment_it_leaves_nothing_and_says_so(tmp_path: Path, moment: str, stop: signal.Signals) -> None:
    with start(tmp_path / "home") as demo:
        assert demo.stderr is not None
        while moment not in (line := demo.stderr.readline()):
            assert line, "ended early"
        eventually(lambda: processes(demo.pid))
        children = processes(demo.pid)
        demo.send_signal(stop)
        campaign, said = demo.communicate(timeout=40)
        assert demo.returncode == 130
        assert "Stopped." in said
        assert "Traceback" not in said
        assert campaign == ""
        eventually(lambda: not running(children))
