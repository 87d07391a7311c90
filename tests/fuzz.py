"""Schemathesis against a running service: requests made from its own document, well-formed and not.

Every answer is held against the document, and ann is never to see what is bob's.  `python -m tests.fuzz` does it for
minutes against `mesh up`; a test, for seconds against the API alone.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import httpx

from tests.system import mesh_up

ROOT = Path(__file__).parents[1]
GENERAL = ROOT / "tests" / "schemathesis.toml"
OF_THIS_RUN = """
[[operations]]
include-tag = "security"
headers = {{ X-API-Key = "{admin_key}" }}

[auth]
wfc = {{ path = "{accounts}", peers = {peers} }}
"""
PEERS = ("ann", "bob")


def fuzz(url: str, admin_key: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run Schemathesis against the service at `url`; what it finds is printed, and makes its exit status 1."""
    with TemporaryDirectory() as folder:
        configuration, accounts = Path(folder) / "schemathesis.toml", Path(folder) / "accounts.json"
        accounts.write_text(json.dumps({"auth": [_account(url, admin_key, user) for user in PEERS]}))
        configuration.write_text(
            GENERAL.read_text() + OF_THIS_RUN.format(accounts=accounts, peers=json.dumps(PEERS), admin_key=admin_key)
        )
        program = Path(sys.executable).with_name("schemathesis")
        options = ["--config-file", str(configuration), "--no-color", "run", f"{url}/api/mesh/openapi.json"]
        return subprocess.run([program, *options, *arguments], cwd=ROOT, check=False)


def _account(url: str, admin_key: str, user_id: str) -> dict[str, Any]:
    """A user with a new key, as Web Fuzzing Commons writes it."""
    answer = httpx.post(
        f"{url}/api/mesh/security/api-keys",
        json={"user_id": user_id, "scopes": ["read", "write", "create", "delete"]},
        headers={"X-API-Key": admin_key},
        trust_env=False,
    )
    key = answer.raise_for_status().json()["api_key"]
    return {"name": user_id, "fixedHeaders": [{"name": "X-API-Key", "value": key}]}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(arguments: tuple[str, ...]) -> None:
    """Fuzz the interface of a `mesh up` of its own; ARGUMENTS go to `schemathesis run`."""
    with TemporaryDirectory() as home, mesh_up(Path(home), {"MESH_AUTH": "keys"}) as up:
        done = fuzz(up.client.url, (Path(home) / "admin-key").read_text().strip(), *arguments)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
