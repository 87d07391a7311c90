"""Schemathesis against a running service: requests made from its own OpenAPI document, well-formed and not.

Every answer is held against the document.  `make fuzz` runs it for minutes against `mesh up`; a test, for seconds.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.system import mesh_up

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def fuzz(url: str, key: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Schemathesis against the service at `url` with the key of an administrator."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    return subprocess.run(
        [program, "--config-file", str(CONFIGURATION), "run", f"{url}/api/mesh/openapi.json",
         "--header", f"X-API-Key: {key}", "--output-truncate", "false", "--no-color", *arguments],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
