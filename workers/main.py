"""A worker process: `python -m workers.main '<json>'`; `mesh worker` becomes it.

One incarnation with a lease of its own.  Jobs run on Celery's thread pool; their model calls on one loop beside it.
"""

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Timer

import structlog
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from celery.worker.consumer import Consumer

from mesh import clock
from mesh.bootstrap import Mesh, build, build_embedding, build_execution, build_generator, build_sweep
from mesh.config import load
from mesh.db.leader import SWEEP, SessionLock
from mesh.dispatch.queues import CONTROL, GENERATE, of_pool
from mesh.errors import MeshError
from mesh.ids import new_id
from mesh.observability import logging
from mesh.tasks.execution import Execution
from mesh.tasks.leases import Holder, Leases
from workers import app as celery_app
from workers.heartbeat import Heart
from workers.jobs import agents, control, generate
from workers.slots import SlotPool

log = structlog.get_logger(__name__)

# A control worker loads LiteLLM so long after it began to serve; a generation that comes sooner has it loaded at once.
WARM_UP_AFTER_SECONDS = 15.0

# How long a thread may compute before another one gets its turn.  A call is about 4 ms of LiteLLM in small pieces; with
# Python's 5 ms, dozens of threads interrupt each other in the middle: 12 to 14 ms CPU a step above a bare loop, against
# 9.6 to 10 with this, and no more latency (measured in turn).
SWITCH_SECONDS = 0.02

# How many more objects there must be for Python to look for cycles (its default: 700).  A call makes thousands, and
# LiteLLM's hundreds of thousands stay for good: they are left out of the search, which was 7% of a worker's CPU.
GARBAGE_THRESHOLD = 10_000

# Above what a Redis that hangs costs.
FLUSH_SECONDS = 4.0


@dataclass(frozen=True)
class Pool:
    """What a worker serves: agent types (none: all), or the system's own queues; `slots` jobs at once."""

    agents: tuple[str, ...]
    control: bool
    slots: int

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it consumes."""
        return (CONTROL, GENERATE) if self.control else of_pool(self.agents)


def main(pool: Pool) -> None:
    """Work until SIGTERM: then finish what runs, take nothing new, and leave.

    Raises:
        ConfigurationError: a setting is missing or wrong.
        UnavailableError: the database does not answer.
    """
    settings = load()
    logging.configure(settings.log_level)
    if not pool.control:  # there a token waits for its turn, with little else at work
        sys.setswitchinterval(SWITCH_SECONDS)
    mesh = build(settings, name="mesh-control" if pool.control else "mesh-worker", prepared_only=not pool.control)
    holder = Holder(new_id("worker"), "worker", socket.gethostname(), os.getpid(), pool.queues, pool.slots)
    app = celery_app.create(settings, pool.queues)
    refreshed = [mesh.performance.refresh]
    execution = _register(app, mesh, pool, holder, refreshed)
    engine = mesh.database.engine
    heart = Heart(
        holder,
        Leases(mesh.database, clock.now),
        life=SessionLock(engine, holder.worker_id),
        leadership=SessionLock(engine, SWEEP),
        sweep=build_sweep(mesh),
        in_flight=execution.in_flight if execution else None,
        refresh=partial(_refresh, refreshed),
    )
    _connect_signals(heart, execution)
    _settle_memory()
    try:
        app.Worker(
            pool=SlotPool,
            concurrency=pool.slots,
            hostname=f"{holder.worker_id}@%h",
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            loglevel=settings.log_level,
        ).start()
    finally:
        heart.stop()
        mesh.live.flush(FLUSH_SECONDS)


def _refresh(refreshed: Sequence[Callable[[], None]]) -> None:
    for refresh in refreshed:
        refresh()


def _settle_memory() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def _register(
    app: Celery, mesh: Mesh, pool: Pool, holder: Holder, refreshed: list[Callable[[], None]]
) -> Execution | None:
    """Add the pool's jobs to `app`, and to `refreshed` what is done every two seconds for them."""
    if pool.control:
        generator = build_generator(mesh, worker_id=holder.worker_id)
        if meaning := build_embedding(mesh, worker_id=holder.worker_id, load_gateway=generator.warm_up):
            embedding, answers = meaning
            control.register(app, mesh.purge, mesh.rollup, embedding=embedding, answers=answers)
            refreshed.append(answers.announce)
            _warm_up_later(generator.warm_up, answers.warm_up)
        else:
            control.register(app, mesh.purge, mesh.rollup)
            _warm_up_later(generator.warm_up)
        generate.register(app, generator)
        return None
    execution = build_execution(mesh, worker_id=holder.worker_id, queues=pool.queues)
    agents.register(app, execution)
    return execution


def _warm_up_later(*steps: Callable[[], object]) -> None:
    """Not while the whole system starts: the agents' workers compute for seconds then, and are waited for."""

    def warm_up() -> None:
        for step in steps:
            step()
        _settle_memory()

    def begin(**_: object) -> None:
        timer = Timer(WARM_UP_AFTER_SECONDS, warm_up)
        timer.daemon = True
        timer.start()

    worker_ready.connect(begin, weak=False)


def _connect_signals(heart: Heart, execution: Execution | None) -> None:
    stopping = Event()

    def ready(sender: Consumer, **_: object) -> None:
        if execution is not None:
            execution.share(sender.pool.take)
        # Only now is somebody there to use a permit; before, health would promise too much.
        heart.start(unless=stopping)
        if not stopping.is_set():
            log.info("worker_ready")

    def leaving(**_: object) -> None:
        stopping.set()
        if execution is not None:
            execution.drain()

    worker_ready.connect(ready, weak=False)
    worker_shutting_down.connect(leaving, weak=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's or the shell's to pass on, as SIGTERM
    try:
        given = json.loads(sys.argv[1])
        main(Pool(tuple(given["agents"]), given["control"], given["slots"]))
    except MeshError as error:
        sys.exit(f"Error: {error}")
