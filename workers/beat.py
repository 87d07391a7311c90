"""Beat: `python -m workers.beat`; several may run, one of them schedules, the others stand by.

The one holds a lock of its database session, so a beat that dies is followed within two seconds; every one of them also
holds a lease and may be elected to sweep, so that deadlines hold even when no worker lives.
"""

import os
import signal
import socket
import sys
import threading

import structlog
from celery import Celery
from celery.beat import Scheduler, Service

from mesh import clock
from mesh.bootstrap import build, build_sweep
from mesh.config import load
from mesh.db.leader import BEAT, SWEEP, SessionLock
from mesh.errors import MeshError
from mesh.ids import new_id
from mesh.observability import logging
from mesh.tasks.leases import Holder, Leases
from workers import app as celery_app
from workers.heartbeat import Heart
from workers.jobs.control import SCHEDULE

log = structlog.get_logger(__name__)

STANDBY_SECONDS = 2.0
# Celery's beat sleeps until its next job is due, and notices only then that it is to stop (measured: up to 30 s).
TICK_SECONDS = 1


def main() -> None:
    """Schedule while leading, stand by else, until SIGTERM.

    Raises:
        ConfigurationError: a setting is missing or wrong.
        UnavailableError: the database does not answer.
    """
    settings = load()
    logging.configure(settings.log_level)
    mesh = build(settings, name="mesh-beat")
    app = celery_app.create(settings, [])
    app.conf.beat_schedule = SCHEDULE
    engine = mesh.database.engine
    holder = Holder(new_id("worker"), "beat", socket.gethostname(), os.getpid(), (), 0)
    heart = Heart(
        holder,
        Leases(mesh.database, clock.now),
        life=SessionLock(engine, holder.worker_id),
        leadership=SessionLock(engine, SWEEP),
        sweep=build_sweep(mesh),
        in_flight=None,
    )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    heart.start(unless=stopping)
    try:
        _lead(app, SessionLock(engine, BEAT), stopping)
    finally:
        heart.stop()


def _lead(app: Celery, leadership: SessionLock, stopping: threading.Event) -> None:
    scheduling: _Scheduling | None = None
    while not stopping.is_set():
        leads = leadership.held()
        if leads and scheduling is None:
            log.info("beat_leads")
            scheduling = _Scheduling(app)
        elif not leads and scheduling is not None:
            log.warning("beat_stands_by")
            scheduling.stop()
            scheduling = None
        stopping.wait(STANDBY_SECONDS)
    if scheduling is not None:
        scheduling.stop()
    leadership.resign()


class _Scheduling:
    """Celery's beat in a thread of its own."""

    def __init__(self, app: Celery) -> None:
        self._service = Service(app, max_interval=TICK_SECONDS, scheduler_cls=Scheduler)
        start = {"embedded_process": True}
        self._thread = threading.Thread(target=self._service.start, kwargs=start, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop it; while the broker is away it hangs, and ends with the process."""
        self._service.stop()
        self._thread.join(timeout=2 * TICK_SECONDS)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in workers.main
    try:
        main()
    except MeshError as error:
        sys.exit(f"Error: {error}")
