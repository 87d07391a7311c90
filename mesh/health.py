"""Health: how each part does, for people, monitors and whoever starts processes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from redis import Redis, RedisError
from sqlalchemy import ColumnElement, Connection, func, select

from mesh import __version__
from mesh.clock import Clock
from mesh.config import Settings
from mesh.db.tables import networks, tasks, workers
from mesh.db.unit_of_work import Database
from mesh.errors import UnavailableError
from mesh.models.providers import configured
from mesh.tasks.claims import WAITING_QUEUES
from mesh.tasks.states import TaskStatus

Status = Literal["healthy", "degraded", "unhealthy"]

REDIS_SECONDS = 1.0


@dataclass(frozen=True)
class HealthReport:
    """The whole: `unhealthy` cannot accept work, `degraded` accepts it but will not finish it at once."""

    status: Status
    components: dict[str, dict[str, Any]]
    active_networks_count: int
    active_tasks_count: int
    timestamp: datetime
    version: str = __version__


@dataclass
class _Findings:
    networks: int = 0
    tasks: int = 0
    components: dict[str, dict[str, Any]] = field(default_factory=dict)


class Health:
    """Looks at every part, each within about a second."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._providers = sorted(configured(settings))
        self._sandbox = settings.sandbox
        self._redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )

    def report(self) -> HealthReport:
        """The present state; never raises for a part that is down."""
        found = _Findings()
        found.components["redis"] = _timed(self._ping_redis)
        found.components["database"] = _timed(lambda: self._read_database(found))
        # As this process sees it: workers may have keys that the API need not have.
        found.components["models"] = {
            "status": "healthy",
            "latency_seconds": 0.0,
            "providers": self._providers,
            "sandbox": self._sandbox,
        }
        states = {part["status"] for part in found.components.values()}
        status: Status = "healthy" if states == {"healthy"} else "degraded"
        if found.components["database"]["status"] == "unhealthy":
            status = "unhealthy"
        return HealthReport(status, found.components, found.networks, found.tasks, self._clock())

    def _ping_redis(self) -> dict[str, Any]:
        try:
            self._redis.ping()
        except (RedisError, OSError) as error:
            return {"status": "degraded", "error": type(error).__name__}
        return {"status": "healthy"}

    def _read_database(self, found: _Findings) -> dict[str, Any]:
        try:
            with self._database.begin() as work:
                connection = work.connection
                found.networks = _count(connection, networks.c.deleted_at.is_(None))
                found.tasks = _count(connection, tasks.c.status == TaskStatus.PROCESSING)
                found.components["workers"] = _timed(lambda: _workers(connection))
                found.components["beat"] = _timed(lambda: _beat(connection))
        except UnavailableError as error:
            return {"status": "unhealthy", "error": type(error.__cause__).__name__}
        return {"status": "healthy"}


def _timed(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    found = look()
    return {**found, "latency_seconds": round(time.perf_counter() - started, 4)}


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).where(condition)).scalar_one()


def _workers(connection: Connection) -> dict[str, Any]:
    """Live slots by queue; degraded when there are none at all, or work waits in a queue that nobody serves."""
    live = connection.execute(
        select(func.unnest(workers.c.queues).label("queue"), workers.c.slots).where(
            workers.c.role == "worker", workers.c.lease_until > func.now()
        )
    )
    slots: dict[str, int] = {}
    for queue, count in live:
        slots[queue] = slots.get(queue, 0) + count
    waiting = connection.execute(WAITING_QUEUES).scalars()
    unserved = sorted(queue for queue in waiting if queue not in slots)
    status = "healthy" if slots and not unserved else "degraded"
    return {"status": status, "slots": slots, "unserved_queues": unserved}


def _beat(connection: Connection) -> dict[str, Any]:
    alive = _count(connection, (workers.c.role == "beat") & (workers.c.lease_until > func.now()))
    return {"status": "healthy" if alive else "degraded", "live": alive}
