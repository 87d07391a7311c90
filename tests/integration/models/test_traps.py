"""What LiteLLM does unless it is told not to, seen in a fresh process, since it does it once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

# Any way out of the process, loopback too, is noted and refused.  Looking up a name is a way out.
WORKER = """
import json, os, socket, sys
ways_out = []
def refuse(*given, **_):
    ways_out.append(repr(given))
    raise OSError("no network here")
class Guarded(socket.socket):
    connect = connect_ex = sendto = refuse
socket.socket = Guarded
socket.create_connection = socket.getaddrinfo = refuse
from mesh.models import catalogue
from mesh.models.litellm_calls import LiteLLMCalls
from mesh.models.providers import Access
def loaded(): return [name in sys.modules for name in ("openai.resources.chat", "tiktoken.load")]
models = catalogue.load()
calls = LiteLLMCalls({name: Access("k", None) for name in ("anthropic", "openai", "gemini", "groq")})
cold = loaded()
calls.warm_up(models.resolve(name) for name in models.chain)
facts = {"ways_out": ways_out, "env_file": "FROM_ENV_FILE" in os.environ, "cold": cold, "warm": loaded()}
print(json.dumps(facts))
"""


def run(code: str, folder: Path) -> str:
    """What `code` says in a process of its own, started in `folder`, where importing the project works."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process saw that imported LiteLLM beside a `.env` file, and warmed up."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / ".env").write_text("FROM_ENV_FILE=1\n", "utf-8")
    found: dict[str, Any] = json.loads(run(WORKER, folder))
    return found


def test_importing_and_warming_up_stay_off_the_network(facts: dict[str, Any]) -> None:
    assert facts["ways_out"] == []


def test_no_env_file_is_read(facts: dict[str, Any]) -> None:
    assert facts["env_file"] is False


def test_a_warm_process_has_loaded_what_its_first_calls_need(facts: dict[str, Any]) -> None:
    """The two that cost most: OpenAI's resources 0.5 s, the tokenizer 0.15 s."""
    assert (facts["cold"], facts["warm"]) == ([False, False], [True, True])


@pytest.mark.parametrize("module", ["api.server", "mesh.bootstrap", "workers.beat"])
def test_only_workers_load_what_calls_models(module: str, tmp_path: Path) -> None:
    loaded = f"import {module}; print(sorted({{'litellm', 'openai', 'pybreaker', 'tiktoken'}} & set(sys.modules)))"
    assert run(loaded, tmp_path).strip() == "[]"
