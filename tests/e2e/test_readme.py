"""The README works as pasted: its `bash` blocks run, in order and in one shell, against a running system."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import clean_environment, mesh_up

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.timeout(180)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_session_works_as_pasted(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with mesh_up(tmp_path / ".mesh") as up:
        script = "\n".join(blocks("bash")).replace("http://127.0.0.1:8080", up.url)
        env = clean_environment({"MESH_PORT": up.url.rpartition(":")[2]})
        done = subprocess.run(
            ["bash", "-eu", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "request_id" not in done.stdout, "a request was refused"
    assert "TechPro X1" in (tmp_path / "campaign.md").read_text()
    assert re.findall(r"^(network|task)_0[0-9a-z]{25}$", done.stdout, re.MULTILINE) == ["network", "task"]
    for part in (
        "event:complete",
        '"status":"completed"',
        '"agent":"Design Specialist"',
        '"status":"cancelled"',
        '"name":"SEO Specialist"',
        "before nine in the morning",
        '"name":"Secure Network"',
        '"user_id":"user123"',
        '"components"',
    ):
        assert part in done.stdout, part
