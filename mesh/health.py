"""Health: how each part does, for people, monitors and whoever starts processes."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from threading import Lock, Thread
from typing import Any, Generic, Literal, TypeVar

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
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
Found = TypeVar("Found")

REDIS_SECONDS = 1.0
DATABASE_SECONDS = 2.0


@dataclass(frozen=True)
class HealthReport:
    """The whole: `unhealthy` cannot accept work, `degraded` accepts it but will not finish it at once."""

    status: Status
    components: dict[str, dict[str, Any]]
    timestamp: datetime
    version: str = __version__


@dataclass(frozen=True)
class Counts:
    """What the service has in hand."""

    active_networks_count: int
    active_tasks_count: int


class Health:
    """Looks at every part, each for a second or two at most."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock,
        *,
        breakers: Callable[[], Mapping[str, str]],
        database_seconds: float = DATABASE_SECONDS,
    ) -> None:
        """`breakers` tells the models whose breaker is not closed.

        `database_seconds` bound each look at the database, whether a connection is waited for or an answer.
        """
        self._breakers = breakers
        self._database = database
        self._database_seconds = database_seconds
        self._answer = _Look(self._ask_database)
        self._parts = _Look(self._read_parts)
        self._counts = _Look(self._count_active)
        self._clock = clock
        self._providers = sorted(configured(settings))
        self._sandbox = settings.sandbox
        self._redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            # By itself it would try for a minute; once more is for a connection that was closed while it lay idle.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )

    def report(self) -> HealthReport:
        """The present state; never raises for a part that is down."""
        components = {"redis": _timed(self._ping_redis)}
        components["database"] = _timed(lambda: self._read_database(components))
        # As this process sees it: workers may have keys that the API need not have.
        components["models"] = _timed(self._look_at_models)
        states = {part["status"] for part in components.values()}
        status: Status = "healthy" if states == {"healthy"} else "degraded"
        if components["database"]["status"] == "unhealthy":
            status = "unhealthy"
        return HealthReport(status, components, self._clock())

    def _look_at_models(self) -> dict[str, Any]:
        """Models that rest do not make it worse than healthy: others answer in their place."""
        breakers = dict(self._breakers())
        return {"status": "healthy", "providers": self._providers, "sandbox": self._sandbox, "breakers": breakers}

    def ready(self) -> Status:
        """Whether work is accepted: `healthy`, or `unhealthy` while the database does not answer in time."""
        try:
            return self._answer.within(self._database_seconds)
        except (UnavailableError, TimeoutError):
            return "unhealthy"

    def counts(self) -> Counts:
        """What the service has in hand; reads every network and task that is active.

        Raises:
            UnavailableError: the database does not answer in time.
        """
        try:
            return self._counts.within(self._database_seconds)
        except TimeoutError as error:
            raise UnavailableError("The database does not answer in time.") from error

    def _ping_redis(self) -> dict[str, Any]:
        try:
            self._redis.ping()
        except (RedisError, OSError) as error:
            return {"status": "degraded", "error": type(error).__name__}
        return {"status": "healthy"}

    def _read_database(self, components: dict[str, dict[str, Any]]) -> dict[str, Any]:
        try:
            components |= self._parts.within(self._database_seconds)
        except UnavailableError as error:
            return {"status": "unhealthy", "error": type(error.__cause__).__name__}
        except TimeoutError:
            return {"status": "unhealthy", "error": "TimeoutError"}
        return {"status": "healthy"}

    def _ask_database(self) -> Status:
        with self._database.begin(atomic=False) as work:
            work.connection.execute(select(1))
        return "healthy"

    def _read_parts(self) -> dict[str, dict[str, Any]]:
        with self._database.begin() as work:
            return {
                "workers": _timed(lambda: _workers(work.connection)),
                "beat": _timed(lambda: _beat(work.connection)),
            }

    def _count_active(self) -> Counts:
        with self._database.begin() as work:
            return Counts(
                _count(work.connection, networks.c.deleted_at.is_(None)),
                _count(work.connection, tasks.c.status == TaskStatus.PROCESSING),
            )


class _Look(Generic[Found]):
    """A look that may hang: whoever asks meanwhile waits for the same one, so that it hangs once, not for each."""

    def __init__(self, look: Callable[[], Found]) -> None:
        self._look = look
        self._lock = Lock()
        self._running: Future[Found] | None = None

    def within(self, seconds: float) -> Found:
        """What it found, or TimeoutError after `seconds`; raises what it raised."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                Thread(target=self._run, args=(self._running,), daemon=True).start()
            running = self._running
        return running.result(timeout=seconds)

    def _run(self, running: "Future[Found]") -> None:
        try:
            running.set_result(self._look())
        except BaseException as error:  # noqa: BLE001  # handed to those who wait
            running.set_exception(error)


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
