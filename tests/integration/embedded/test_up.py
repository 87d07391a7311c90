"""What `mesh up` refuses, each with one clear line and exit code 1, before anything is started."""

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.cli.up import up
from mesh.embedded.home import locked


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)


def refusal(*arguments: str | Path) -> str:
    result = CliRunner().invoke(up, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    return result.output


def test_a_busy_port_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 is in use" in refusal("--home", home, "--port", str(port))


def test_a_second_up_in_one_home_names_the_first(home: Path) -> None:
    with locked(home):
        assert f"pid {os.getpid()}" in refusal("--home", home)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "mesh.example"])  # noqa: S104  # never bound
def test_other_machines_are_not_served_without_credentials(
    home: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_AUTH", "local")
    assert "MESH_AUTH=keys" in refusal("--home", home, "--host", host)


def test_an_address_of_another_machine_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_AUTH", "keys")
    assert "192.0.2.1" in refusal("--home", home, "--host", "192.0.2.1")


def test_a_setting_that_cannot_be_read_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_AUTH", "maybe")
    assert "MESH_AUTH" in refusal("--home", home)
