"""Starting the server: what it refuses, and what its process loads."""

import logging
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from api.server import Redacted
from mesh.config import Settings
from mesh.ids import new_id
from mesh.security.token import TICKET, new_key

HEAVY = ("litellm", "pybreaker", "openai", "aiohttp")


def test_the_api_never_loads_a_model_library() -> None:
    code = f"import sys, api.app, api.server, mesh.bootstrap; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("host", "environment", "said"),
    [
        ("192.0.2.1", {"MESH_AUTH": "local", "MESH_SECRETS": "v1:" + "s" * 32}, "MESH_AUTH=keys"),
        ("127.0.0.1", {}, "MESH_SECRETS is not set"),
        ("127.0.0.1", {"MESH_SECRETS": "v1:short"}, "shorter than 32"),
        ("127.0.0.1", {"MESH_AUTH": "none"}, "MESH_AUTH"),
    ],
)
def test_a_server_that_cannot_start_as_it_is_set_says_so_in_one_line(
    host: str, environment: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.server", host, "0", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), **environment},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_default_is_this_machine_only() -> None:
    assert Settings.model_fields["host"].default == "127.0.0.1"


def test_what_the_server_logs_holds_no_key_and_no_ticket(caplog: pytest.LogCaptureFixture) -> None:
    secrets = [new_key("ann", new_id("key"), datetime(2026, 11, 22, tzinfo=UTC)), TICKET + "x" * 90]
    logger = logging.getLogger("test.server")
    logger.addFilter(Redacted())
    for secret in secrets:
        try:
            int(secret)
        except ValueError:
            logger.exception("Error handling request %s %s", "GET", f"/events?ticket={secret}")
    assert "invalid literal for int() with base 10: '[ticket]'" in caplog.text
    assert "GET /events?ticket=[api key]" in caplog.text
    assert not any(secret in caplog.text for secret in secrets)
