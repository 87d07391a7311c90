"""The service's own processes as parts, each `python -m mesh ...` with its settings in the environment."""

import json
import os
import socket
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from mesh.config import Settings
from mesh.embedded.process import spawn
from mesh.embedded.supervisor import Part


def service(
    settings: Settings, *, needs: tuple[str, ...], concurrency: int, api_ready: Callable[[], bool]
) -> list[Part]:
    """API, workers and beat; `concurrency` is the number of steps that the agents' worker runs at once."""
    return [
        _part(settings, "api", ["api"], needs=needs, ready=api_ready),
        _part(settings, "worker", ["worker", "--concurrency", str(concurrency)], needs=needs),
        _part(settings, "worker-control", ["worker", "--control"], needs=needs),
        _part(settings, "beat", ["beat"], needs=needs),
    ]


def sandbox(settings: Settings, port: int) -> Part:
    """The stand-in provider on 127.0.0.1."""
    return _part(settings, "sandbox", ["sandbox", "--port", str(port)], ready=partial(_listens, port))


def with_sandbox(settings: Settings, port: int, bases: Collection[tuple[str, str]]) -> Settings:
    """`settings` with the sandbox at `port` in the place of every provider in `bases`, (name, path) each."""
    addresses = {f"{name}_api_base": f"http://127.0.0.1:{port}{path}" for name, path in bases}
    keys = {f"{name}_api_key": SecretStr("sandbox") for name, _ in bases}
    return settings.model_copy(update={"sandbox": True, **addresses, **keys})


def environment(settings: Settings) -> dict[str, str]:
    """A child's environment: this process's, with all settings replaced by exactly `settings`."""
    variables = {field.alias or f"MESH_{name.upper()}": name for name, field in Settings.model_fields.items()}
    inherited = {name: value for name, value in os.environ.items() if name not in variables}
    values = {variable: _text(getattr(settings, name)) for variable, name in variables.items()}
    return inherited | {variable: value for variable, value in values.items() if value}


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value) if value else ""
    return "" if value is None else str(value)


def _part(
    settings: Settings,
    name: str,
    arguments: list[str],
    *,
    needs: tuple[str, ...] = (),
    ready: Callable[[], bool] | None = None,
) -> Part:
    log = settings.home / "logs" / f"{name}.log"
    program: list[str | Path] = [sys.executable, "-m", "mesh", *arguments]
    return Part(name, partial(spawn, program, log=log, env=environment(settings)), log, ready, needs)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
