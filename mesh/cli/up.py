"""`mesh up`: everything on one machine, supervised; `running_system` is the same for other commands and tests.

cli.main -> here -> embedded (Postgres, Valkey, supervisor) -> api, workers and beat as child processes.  What is heavy
is imported where it is used, so that `mesh --help` stays quick.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from mesh.dispatch.queues import CONTROL, GENERATE, of_pool
from mesh.errors import ConfigurationError, MeshError, UnavailableError
from mesh.security.loopback import is_loopback

if TYPE_CHECKING:
    import httpx

    from mesh.config import Settings
    from mesh.embedded.supervisor import Supervisor

START_SECONDS = 60.0
DEFAULT_PORT = 8080
ALL_QUEUES = (*of_pool(()), CONTROL, GENERATE)  # what the workers of one machine serve


@dataclass(frozen=True)
class System:
    """A running system: where it answers, the key that may do everything, and the settings that its parts got."""

    base_url: str
    admin_key: str
    settings: "Settings"
    supervisor: "Supervisor"


@click.command()
@click.option("--host", help="Address that the API listens on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port that the API listens on.  [default: 8080]")
@click.option("--home", type=click.Path(path_type=Path), help="Folder for data, keys and logs.  [default: .mesh]")
@click.option("--concurrency", type=click.IntRange(1, 512), default=32, show_default=True, help="Steps run at once.")
def up(host: str | None, port: int | None, home: Path | None, concurrency: int) -> None:
    """Run everything on this machine until Ctrl-C."""
    from mesh.config import load

    for stop in (signal.SIGTERM, signal.SIGINT):  # SIGINT too, since a shell lets its background jobs ignore it
        signal.signal(stop, signal.default_int_handler)
    given = {"host": host, "port": port, "home": home}
    try:
        settings = load().model_copy(update={name: value for name, value in given.items() if value is not None})
        with running_system(settings, concurrency=concurrency) as system:
            click.echo(_welcome(system))
            system.supervisor.wait()
    except KeyboardInterrupt:
        click.echo("Stopped.")
    except MeshError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def running_system(
    settings: "Settings", *, port: int | None = None, concurrency: int = 32, quiet: bool = False
) -> Iterator[System]:
    """Start the whole system, and stop it on leaving; a background thread keeps its parts alive meanwhile.

    `port` overrides the settings' (0: a free one); `quiet` leaves out the lines about parts that were started again.
    A Ctrl-C while it stops kills what is left.

    Raises:
        ConfigurationError: a setting, the port or the home folder cannot be used.
        UnavailableError: a part did not start in time; quotes its log.
    """
    from mesh.embedded.home import locked, private_folder
    from mesh.embedded.supervisor import Supervisor

    settings = _with_local_auth(settings)
    with ExitStack() as stack:
        settings = settings.model_copy(update={"home": private_folder(settings.home)})
        stack.enter_context(locked(settings.home))
        settings = _with_port(settings, port)
        say = _silence if quiet else _say
        say(f"Starting AI Mesh Network in {settings.home} ...")
        http = stack.enter_context(_http())
        supervisor = stack.enter_context(Supervisor(say))
        stack.callback(say, "Stopping ...")
        settings = _start_services(settings, supervisor)
        yield _start_parts(settings, supervisor, concurrency, http)


def _with_local_auth(settings: "Settings") -> "Settings":
    if "auth" not in settings.model_fields_set and is_loopback(settings.host):
        settings = settings.model_copy(update={"auth": "local"})
    if settings.auth == "local" and not is_loopback(settings.host):
        raise ConfigurationError(
            f"Without credentials only this machine may be served, not {settings.host}: set MESH_AUTH=keys."
        )
    return settings


def _with_port(settings: "Settings", port: int | None) -> "Settings":
    from mesh.embedded.process import free_port, port_is_free

    wanted = settings.port if port is None else port
    try:
        if wanted == 0:
            wanted = free_port(settings.host)
        elif not port_is_free(settings.host, wanted):
            raise ConfigurationError(f"Port {wanted} of {settings.host} is in use: choose another with --port.")
    except OSError as error:
        raise ConfigurationError(f"Nothing can listen on {settings.host} port {wanted}: {error.strerror}.") from error
    return settings.model_copy(update={"port": wanted})


def _start_services(settings: "Settings", supervisor: "Supervisor") -> "Settings":
    """Start what the service needs and nobody gave: Postgres, Valkey, the sandbox, a secret; return where they are."""
    from pydantic import SecretStr

    from mesh.config import PROVIDERS
    from mesh.embedded import parts
    from mesh.embedded.home import kept
    from mesh.embedded.postgres import Postgres
    from mesh.embedded.process import free_port
    from mesh.embedded.valkey import Valkey
    from mesh.sandbox.formats import BASES

    secrets = settings.secrets.get_secret_value() or kept(settings.home / "secrets", _new_secret)
    changes: dict[str, object] = {"secrets": SecretStr(secrets)}
    if not settings.redis_url:
        valkey = Valkey(settings.home)
        supervisor.add(valkey.part())
        changes["redis_url"] = valkey.url
    if not settings.openai_api_base and not any(getattr(settings, f"{name}_api_key") for name in PROVIDERS):
        port = free_port()
        settings = parts.with_sandbox(settings, port, BASES.items())
        supervisor.add(parts.sandbox(settings, port))
    if not settings.database_url:
        postgres = Postgres(settings.home)
        postgres.prepare()  # while the others start
        supervisor.add(postgres.part())
        changes["database_url"] = postgres.url
    supervisor.wait_ready(timeout_seconds=START_SECONDS)
    return settings.model_copy(update=changes)


def _start_parts(settings: "Settings", supervisor: "Supervisor", concurrency: int, http: "httpx.Client") -> System:
    """Bring the schema up to date, start API, workers and beat, and wait until the whole is healthy."""
    from mesh.db.migrate import upgrade
    from mesh.embedded.parts import service

    upgrade(settings.database_url)
    admin_key = _admin_key(settings)
    url = base_url(settings)
    health = f"{url}/api/mesh/health"
    supervisor.add(
        *service(
            settings,
            needs=supervisor.names,
            concurrency=concurrency,
            api_ready=lambda: _ask(http, f"{health}/ready", admin_key)[0] == 200,
        )
    )
    supervisor.wait_ready(timeout_seconds=START_SECONDS)
    try:
        supervisor.wait_until(
            lambda: _is_complete(_ask(http, health, admin_key)[1]), timeout_seconds=START_SECONDS, every_seconds=0.1
        )
    except UnavailableError as error:
        raise UnavailableError(f"{error} Health: {_ask(http, health, admin_key)[1]}") from error
    return System(url, admin_key, settings, supervisor)


def _admin_key(settings: "Settings") -> str:
    """The administrator's key, kept in `admin-key` of the home folder as long as it holds."""
    from mesh.embedded.home import write_private
    from mesh.security.keys import bootstrap_admin

    path = settings.home / "admin-key"
    kept = path.read_text().strip() if path.exists() else ""
    key = bootstrap_admin(settings, kept)
    if key != kept:
        write_private(path, key)
    return key


def _is_complete(report: dict[str, Any]) -> bool:
    """Whether all is well and somebody serves every queue; `healthy` alone asks that only of queues with work."""
    if report.get("status") != "healthy":
        return False
    slots = report.get("components", {}).get("workers", {}).get("slots", {})
    return all(queue in slots for queue in ALL_QUEUES)


def _ask(http: "httpx.Client", url: str, key: str) -> tuple[int, dict[str, Any]]:
    """The status (0: no answer) and the JSON of the answer."""
    import httpx

    try:
        answer = http.get(url, headers={"X-API-Key": key})
        return answer.status_code, answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return 0, {"error": repr(error)}


def _http() -> "httpx.Client":
    """One client for all questions to the API, since each costs 14 ms of CPU to make; no proxy to oneself."""
    import httpx

    return httpx.Client(timeout=1, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def base_url(settings: "Settings") -> str:
    """Where the API of `settings` is asked from this machine, such as `http://127.0.0.1:8080`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _new_secret() -> str:
    from base64 import urlsafe_b64encode
    from secrets import token_bytes

    return f"v1:{urlsafe_b64encode(token_bytes(32)).decode()}"


def _welcome(system: System) -> str:
    home = system.settings.home
    key = f' -H "X-API-Key: $(cat {quote(str(home / "admin-key"))})"' if system.settings.auth == "keys" else ""
    body = '{"name": "My first network"}'
    lines = [
        f"AI Mesh Network is ready at {system.base_url}",
        "",
        f"  curl {system.base_url}/api/mesh/networks{key} -H 'Content-Type: application/json' -d '{body}'",
        "",
        "Give it a task and watch, in another terminal:",
        "",
        f"  {_run_command(system)}",
        "",
        f"Admin key  {system.admin_key}",
        f"Logs       {home / 'logs'}",
    ]
    if system.settings.sandbox:
        lines.append(
            "Models     the sandbox's canned answers; set ANTHROPIC_API_KEY, OPENAI_API_KEY, ... for real ones"
        )
    return "\n".join([*lines, "Ctrl-C stops everything."])


def mesh_command() -> str:
    """How the shell that this process was called from calls `mesh`."""
    program = Path(sys.argv[0])
    return quote(str(program)) if program.name == "mesh" else "python -m mesh"


def _run_command(system: System) -> str:
    url = "" if system.settings.port == DEFAULT_PORT else f" --url {system.base_url}"
    key = f' --key "$(cat {quote(str(system.settings.home / "admin-key"))})"' if system.settings.auth == "keys" else ""
    return f'{mesh_command()} run "Plan a newsletter"{url}{key}'


def _say(line: str) -> None:
    click.echo(line, err=True)


def _silence(_line: str) -> None:
    """Say nothing."""
