"""What these tests play with: a Redis that can be killed, a server process, and a task that somebody works on."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import insert

from mesh.db import engine
from mesh.db.tables import networks, tasks
from mesh.db.unit_of_work import Database
from mesh.embedded.process import free_port
from mesh.embedded.valkey import Valkey
from mesh.events.live import LivePublisher
from mesh.events.log import StoredEvent, append
from mesh.events.types import Complete, Event, Plan, Started
from mesh.ids import new_id
from mesh.tasks.graph import lock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


class MortalRedis:
    """A Valkey of the test's own."""

    def __init__(self, home: Path) -> None:
        self._part = (valkey := Valkey(home)).part()
        self.url = valkey.url
        self.start()

    def start(self) -> None:
        self._process = self._part.spawn()
        assert self._part.ready is not None
        until(self._part.ready)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class StreamServer:
    """A process that serves the streams (see server.py)."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, beat_seconds: float) -> None:
        port = free_port()
        self.revoked = folder / f"revoked-{port}"
        self.url = f"http://127.0.0.1:{port}"
        program = [sys.executable, str(Path(__file__).with_name("server.py"))]
        with (folder / f"server-{port}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*program, database_url, redis_url, str(port), str(beat_seconds), str(self.revoked)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._answers)

    def events(self, task_id: str) -> str:
        return f"{self.url}/api/mesh/tasks/{task_id}/events"

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0

    def _answers(self) -> bool:
        try:
            return httpx.get(self.events("task_unknown")).status_code == 404
        except httpx.TransportError:
            return False


class Work:
    """Makes tasks and their events; what it announces may be lost or come late, as it is told."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database = Database(engine.create(database_url, name="stage"))
        self._redis_url = redis_url
        self.connect()
        self._random = random.Random(7)
        self._held: list[tuple[str, list[StoredEvent]]] = []
        with self._database.begin() as work:
            work.connection.execute(
                insert(networks).values(
                    id="network_1",
                    owner="somebody",
                    name="n",
                    description="",
                    shared_context={},
                    max_iterations=10,
                    timeout_seconds=300,
                    model_selection={},
                    created_at=NOW,
                    updated_at=NOW,
                )
            )

    def connect(self) -> None:
        """Forget that Redis failed before."""
        self._live = LivePublisher(self._redis_url)

    def task(self) -> str:
        task_id = new_id("task")
        with self._database.begin() as work:
            work.connection.execute(
                insert(tasks).values(
                    id=task_id,
                    network_id="network_1",
                    owner="somebody",
                    status="processing",
                    task="t",
                    context={},
                    priority=1,
                    model_selection={},
                    run=1,
                    iterations=0,
                    last_sequence=0,
                    created_at=NOW,
                )
            )
        return task_id

    def store(self, task_id: str, *new: Event) -> list[StoredEvent]:
        with self._database.begin() as work:
            task = lock(work.connection, task_id)
            assert task is not None
            return append(work.connection, task, new, at=NOW)

    def happen(self, task_id: str, *new: Event) -> None:
        self._live.publish(task_id, self.store(task_id, *new))

    def happen_badly(self, task_id: str, *new: Event) -> None:
        """Store; then announce some of what was stored, not in its order, and some not at all."""
        self._held.append((task_id, self.store(task_id, *new)))
        while self._held and self._random.random() < 0.6:
            held = self._held.pop(self._random.randrange(len(self._held)))
            if self._random.random() < 0.8:
                self._live.publish(*held)

    def run(self, task_id: str, events: int) -> None:
        """A whole task, of `events` events."""
        self.happen(task_id, Started("processing", 1))
        for _ in range(events - 2):
            self.happen(task_id, plan())
        self.happen(task_id, Complete("completed"))


def plan(size: int = 10) -> Plan:
    return Plan(1, [{"description": "x" * size}])
