"""The project itself: versions, pins, targets and deployment files agree with the code and with each other."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import mesh
from mesh.cli.main import main

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text())
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

REQUIREMENTS = [
    *PROJECT["project"]["dependencies"],
    *(line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra),
    *(line for group in PROJECT["dependency-groups"].values() for line in group),
    *PROJECT["build-system"]["requires"],
    *PROJECT["tool"]["uv"]["build-constraint-dependencies"],
]
LITELLM_WITH_STEALER = {"1.82.7", "1.82.8", "1.107.0"}
"""Releases that carried, or are reported to carry, a credential stealer."""


def test_the_package_says_the_version_it_is_published_under() -> None:
    assert mesh.__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_direct_dependency_is_pinned_exactly(requirement: str) -> None:
    assert re.fullmatch(r"[\w-]+(\[[\w,-]+\])?==[\w.]+", requirement)


def test_the_lock_takes_everything_from_the_public_index_with_hashes() -> None:
    packages = [p for p in LOCK["package"] if p["source"] != {"editable": "."}]
    assert {p["source"]["registry"] for p in packages} == {"https://pypi.org/simple"}
    files = [f for p in packages for f in (*p.get("wheels", []), *([p["sdist"]] if "sdist" in p else []))]
    assert all(f["hash"].startswith("sha256:") for f in files)
    assert {f["url"].split("/")[2] for f in files} == {"files.pythonhosted.org"}


def test_only_packages_named_as_exceptions_are_built_from_source() -> None:
    without_wheel = {p["name"] for p in LOCK["package"] if not p.get("wheels")}
    assert PROJECT["tool"]["uv"]["no-build"] is True
    assert without_wheel == set(PROJECT["tool"]["uv"]["no-binary-package"])


def test_no_litellm_release_with_a_credential_stealer_is_locked() -> None:
    versions = {p["version"] for p in LOCK["package"] if p["name"] == "litellm"}
    assert len(versions) == 1
    assert not versions & LITELLM_WITH_STEALER


def test_the_uv_that_is_brought_builds_the_project_itself() -> None:
    """Were they two versions, every bootstrap would download a build backend beside uv."""
    brought = re.search(r"^uv==(\S+)", (ROOT / "scripts" / "uv.txt").read_text(), re.MULTILINE)
    assert brought
    assert PROJECT["build-system"]["requires"] == [f"uv_build=={brought[1]}"]
    assert f"/uv:{brought[1]} " in (ROOT / "Dockerfile").read_text()


def test_the_makefile_keeps_the_promised_targets() -> None:
    explained = re.findall(r"^([a-z]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"help", "setup", "demo", "run", "test", "check", "bench", "load", "chaos"} <= set(explained)


def test_the_command_line_starts_without_litellm() -> None:
    """Its import takes 3 s of CPU and 170 MB: `mesh --help` and the API never pay for it."""
    loaded = "import sys, mesh.cli.main; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0


@pytest.mark.parametrize("service", [name for name, service in SERVICES.items() if "build" in service])
def test_compose_starts_commands_that_exist(service: str) -> None:
    outcome = CliRunner().invoke(main, [*SERVICES[service]["command"], "--help"])
    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize("service", [name for name, service in SERVICES.items() if "build" not in service])
def test_compose_pins_foreign_images_and_waits_until_they_are_healthy(service: str) -> None:
    assert re.search(r":\d+\.\d+\.\d+", SERVICES[service]["image"])
    assert "healthcheck" in SERVICES[service]
