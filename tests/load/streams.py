"""`make bench-streams`: what two thousand subscribers of one API process cost, and how soon events reach them.

A process of its own reads the streams (`tests.load.subscribers`); this one stores and announces events as workers do.
Delivery is from just before an event's commit to its arrival, by the clock that both processes share.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from rich.console import Console
from rich.table import Table

from mesh import clock
from mesh.cli.up import System, running_system
from mesh.config import Settings
from mesh.db import engine
from mesh.db.unit_of_work import Database
from mesh.events import log, types
from mesh.events.live import LivePublisher
from mesh.tasks import graph
from tests.load.client import CAMPAIGN
from tests.load.cpu import resident_bytes, tree_seconds

# What opens, closes and beats beside the deliveries: streams are given so long to stand before anything is measured.
SETTLE_SECONDS = 3.0

EVENTS = "/api/mesh/tasks/{}/events"

# More than sockets hold, and not so many that whoever does not read them is cut off.
CLOGGING_EVENTS = 400
CLOGGING_LENGTH = 20_000

console = Console()


@dataclass(frozen=True)
class Phase:
    """One measurement: milliseconds of delivery, and microseconds of the API's CPU for each."""

    delivered: int
    expected: int
    p50: float
    p99: float
    cpu: float


class Subscribers:
    """The process that reads; one line of JSON on its input is one order, one on its output the answer."""

    def __init__(self, base_url: str) -> None:
        command = [sys.executable, "-m", "tests.load.subscribers", base_url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(self, **what: object) -> dict[str, float]:
        """Have something done; answers the figures."""
        _pipe(self.process.stdin).write(json.dumps(what) + "\n")
        _pipe(self.process.stdin).flush()
        line = _pipe(self.process.stdout).readline()
        if not line:
            raise RuntimeError("The subscribers broke.")
        return dict(json.loads(line))


class Writer:
    """Stores and announces events of tasks, one task after the other, at a steady rate."""

    def __init__(self, system: System, task_ids: Sequence[str]) -> None:
        self._database = Database(engine.create(system.settings.database_url, name="mesh-bench"))
        self._live = LivePublisher(system.settings.redis_url)
        self._task_ids = task_ids

    def run(self, events: int, per_second: float) -> None:
        """Write so many events; each tells when it was made."""
        begun = time.monotonic()
        for number in range(events):
            time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            self.write(self._task_ids[number % len(self._task_ids)], f"made at {time.monotonic_ns()} {'x' * 300}")

    def write(self, task_id: str, text: str) -> None:
        """Store and announce one event of a task."""
        with self._database.begin() as work:
            task = graph.lock(work.connection, task_id)
            assert task is not None
            stored = log.append(work.connection, task, [types.Paused(text)], at=clock.now())
        self._live.publish(task_id, stored)


def main() -> None:
    """Start a system, open streams, write events, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--subscribers", type=int, default=2000)
    options.add_argument("--tasks", type=int, default=20)
    options.add_argument("--rate", type=int, default=1000, help="deliveries a second")
    options.add_argument("--seconds", type=float, default=20.0, help="for each measurement")
    options.add_argument(
        "--stalled", type=int, default=20, help="more of them, who do not read, in the second measurement"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, _system(Path(folder)) as system:
        *task_ids, clogged = _tasks(system, given.tasks + 1)
        writer = Writer(system, task_ids)
        subscribers = Subscribers(system.base_url)
        api = system.supervisor.pid("api")
        assert api
        paths = [EVENTS.format(one) for one in task_ids]
        subscribers.order(open=given.tasks, paths=paths)  # what is loaded with the first streams belongs to nobody
        time.sleep(SETTLE_SECONDS)
        before = resident_bytes(api)
        subscribers.order(open=given.subscribers - given.tasks, paths=paths)
        time.sleep(SETTLE_SECONDS)
        each = (resident_bytes(api) - before) / (given.subscribers - given.tasks)
        quiet = _measure(api, writer, subscribers, given)
        subscribers.order(open=given.stalled, paths=[EVENTS.format(clogged)], stall=True)
        for _ in range(CLOGGING_EVENTS):
            writer.write(clogged, "x" * CLOGGING_LENGTH)
        stalled = _measure(api, writer, subscribers, given)
        held = (resident_bytes(api) - before) / (given.subscribers - given.tasks)
    _print(given, each, held, quiet, stalled)


@contextmanager
def _system(home: Path) -> Iterator[System]:
    settings = Settings(home=home / "home", log_level="WARNING")
    with running_system(settings, port=0, concurrency=4, quiet=True) as system:
        yield system


def _tasks(system: System, count: int) -> list[str]:
    """Tasks that nobody works on."""
    with httpx.Client(base_url=f"{system.base_url}/api/mesh", trust_env=False) as client:
        network_id = client.post("/networks", json={"name": "streams"}).raise_for_status().json()["network_id"]
        held = CAMPAIGN | {"auto_process": False}
        made = [client.post(f"/networks/{network_id}/tasks", json=held).raise_for_status() for _ in range(count)]
        return [answer.json()["task_id"] for answer in made]


def _measure(api: int, writer: Writer, subscribers: Subscribers, given: argparse.Namespace) -> Phase:
    per_event = given.subscribers / given.tasks
    events = int(given.rate * given.seconds / per_event)
    subscribers.order(forget=True)
    before = tree_seconds([api])
    writing = threading.Thread(target=writer.run, args=(events, given.rate / per_event))
    writing.start()
    writing.join()
    time.sleep(1)
    spent = tree_seconds([api]) - before
    figures = subscribers.order(report=True)
    delivered = int(figures["delivered"])
    return Phase(
        delivered=delivered,
        expected=int(events * per_event),
        p50=figures["p50"],
        p99=figures["p99"],
        cpu=spent / max(1, delivered) * 1e6,
    )


def _print(given: argparse.Namespace, each: float, held: float, *phases: Phase) -> None:
    title = f"{given.subscribers} subscribers of {given.tasks} tasks on one API process, {given.rate} deliveries/s"
    table = Table("", "delivered", "p50 ms", "p99 ms", "CPU µs a delivery", title=title)
    for name, one in zip(("all read", f"and {given.stalled} more do not read"), phases, strict=True):
        counted = f"{one.delivered} of {one.expected}"
        table.add_row(name, counted, f"{one.p50:.1f}", f"{one.p99:.1f}", f"{one.cpu:.0f}")
    console.print(table)
    console.print(f"Memory a subscriber: {each / 1024:.1f} KB once open, {held / 1024:.1f} KB at the end")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe
    return pipe


if __name__ == "__main__":
    main()
