"""`mesh run` from outside, against a whole system."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox import Sandbox
from tests.system import Up, clean_environment, eventually

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("e2e-run")]

TASK = "Create an e-mail campaign"


def command(up: Up, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mesh", "run", *arguments, "--url", up.url]


def start(up: Up, *arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    env = clean_environment({"http_proxy": "http://127.0.0.1:1"})  # must not stand between this machine and itself
    return subprocess.Popen(command(up, *arguments), stdout=pipe, stderr=pipe, text=True, env=env)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def the_only_task(up: Up, said: str) -> dict[str, object]:
    network, task = (re.search(rf"{kind}_0\w+", said) for kind in ("network", "task"))
    assert network
    assert task
    return up.client.task(network[0], task[0])


@pytest.mark.usefixtures("sandbox")
def test_the_result_alone_is_on_stdout_and_the_progress_on_stderr(up: Up, tmp_path: Path) -> None:
    context = tmp_path / "product.json"
    context.write_text(json.dumps({"product_name": "TrailMate"}))
    code, out, err = finish(start(up, TASK, "--context", str(context)))
    assert code == 0, err
    task = the_only_task(up, err)
    assert isinstance(task["result"], dict)
    assert out == f"{task['result']['content']}\n"
    assert "TrailMate" in out
    for said in ("Coordinator Agent: asks", "Content Specialist: done", "6 model calls", "$"):
        assert said in err
    assert "\x1b" not in out + err


@pytest.mark.usefixtures("sandbox")
def test_a_terminal_gets_a_table_and_a_rendered_result(up: Up) -> None:
    leader, follower = pty.openpty()
    env = clean_environment({"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"})
    with subprocess.Popen(command(up, TASK), stdin=follower, stdout=follower, stderr=follower, env=env) as process:
        os.close(follower)
        screen = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                screen += os.read(leader, 65_536)
            except OSError:  # the other side is closed
                break
    os.close(leader)
    assert process.returncode == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode())
    assert re.search(r"✓ +Content Specialist +claude\S+ +\d+\.\d s +\$0\.\d+", shown)
    assert "6 of 6 steps" in shown
    assert "## Copy" not in shown  # a heading, not its source
    assert "Copy" in shown


def test_fallbacks_are_shown(up: Up, sandbox: Sandbox) -> None:
    sandbox.fault("529", provider="anthropic", times=1)
    code, _, err = finish(start(up, TASK))
    assert code == 0
    assert re.search(r"Coordinator Agent: claude\S+ failed \(.+\), asks gpt", err)


def test_a_task_that_fails_is_exit_code_1_with_the_reason_and_no_output(up: Up, sandbox: Sandbox) -> None:
    sandbox.fault("400")
    code, out, err = finish(start(up, TASK))
    assert (code, out) == (1, "")
    assert re.search(r"^Error: The task ended as failed\. .+\(\w+\)$", err, re.MULTILINE)


def test_ctrl_c_stops_watching_and_not_the_task(up: Up, sandbox: Sandbox) -> None:
    sandbox.latency(1)
    process = start(up, TASK)
    assert process.stderr is not None
    said = ""
    while "asks" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    watch = re.search(r"curl -N (\S+)", err)
    cancel = re.search(r"curl -X POST (\S+)", err)
    assert watch
    assert cancel
    assert subprocess.run(["curl", "-sfN", watch[1]], capture_output=True, text=True, check=True).stdout.endswith(
        "\n\n"
    )
    assert the_only_task(up, said)["status"] == "completed"


def test_a_watch_goes_on_after_the_api_died(up: Up, sandbox: Sandbox) -> None:
    sandbox.latency(1)
    process = start(up, TASK)
    assert process.stderr is not None
    said = ""
    while "plan 1" not in said:
        said += process.stderr.readline()
    up.kill("api", whole=True)
    with process:  # not by communicate(), which forgets what this reader has read ahead
        err = process.stderr.read()
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0, err
    assert out.startswith("# ")
    assert "reconnecting" in err
    asked = re.findall(r"(\w+ (?:Specialist|Agent)): asks", said + err)
    assert len(asked) == 6  # each step once: neither a gap nor a duplicate
    eventually(lambda: up.health() == "healthy")


def test_nobody_there_is_one_line_that_says_what_to_do() -> None:
    nobody = [sys.executable, "-m", "mesh", "run", TASK, "--url", "http://127.0.0.1:1"]
    done = subprocess.run(nobody, capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "mesh up" in done.stderr
    assert "--url" in done.stderr


@pytest.mark.usefixtures("sandbox")
def test_a_refusal_is_shown_with_its_faults(up: Up) -> None:
    code, out, err = finish(start(up, "x" * 20_001))
    assert (code, out) == (1, "")
    assert "/task: " in err
