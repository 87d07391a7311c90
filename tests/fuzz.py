"""Schemathesis against a running service: requests made from its own document, well-formed and not.

Every answer is held against the document, and ann is never to see what is bob's.  `python -m tests.fuzz` does it for
minutes against `mesh up`; a test, for seconds against the API alone.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import httpx

from tests.system import mesh_up

ROOT = Path(__file__).parents[1]
PEERS = ("ann", "bob")


def fuzz(url: str, admin_key: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run Schemathesis against the service at `url`; what it finds is printed, and makes its exit status 1."""
    keys = {user: _new_key(url, admin_key, user) for user in PEERS} | {"admin": admin_key}
    with TemporaryDirectory() as folder:
        configuration = Path(folder) / "schemathesis.toml"
        general = (ROOT / "tests" / "schemathesis.toml").read_text()
        configuration.write_text(
            f'{general}\n[auth]\nwfc = {{ path = "{_accounts(folder, keys)}", peers = {json.dumps(PEERS)} }}\n'
        )
        program = Path(sys.executable).with_name("schemathesis")
        options = ["--config-file", str(configuration), "--no-color", "run", f"{url}/api/mesh/openapi.json"]
        return subprocess.run([program, *options, *arguments], cwd=ROOT, check=False)


def _new_key(url: str, admin_key: str, user_id: str) -> str:
    answer = httpx.post(
        f"{url}/api/mesh/security/api-keys",
        json={"user_id": user_id, "scopes": ["read", "write", "create", "delete"]},
        headers={"X-API-Key": admin_key},
        trust_env=False,
    )
    return str(answer.raise_for_status().json()["api_key"])


def _accounts(folder: str, keys: Mapping[str, str]) -> Path:
    """Who asks, as a file in the form of Web Fuzzing Commons: an operation is asked by the first whom it lets in."""
    accounts = [{"name": name, "fixedHeaders": [{"name": "X-API-Key", "value": key}]} for name, key in keys.items()]
    file = Path(folder) / "accounts.json"
    file.write_text(json.dumps({"auth": accounts}))
    return file


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(arguments: tuple[str, ...]) -> None:
    """Fuzz the interface of a `mesh up` of its own; ARGUMENTS go to `schemathesis run`."""
    with TemporaryDirectory() as home, mesh_up(Path(home), {"MESH_AUTH": "keys"}) as up:
        done = fuzz(up.client.url, (Path(home) / "admin-key").read_text().strip(), *arguments)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
