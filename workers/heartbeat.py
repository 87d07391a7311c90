"""The threads beside the jobs: one renews the process's lease and stops what it lost, one sweeps when elected.

Two, because a long sweep must not cost the lease.  Neither needs Celery, Redis or a free slot.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from mesh.db.leader import SessionLock
from mesh.errors import UnavailableError
from mesh.tasks.execution import InFlight
from mesh.tasks.leases import LEASE, Holder, Leases
from mesh.tasks.sweep import Sweep

log = structlog.get_logger(__name__)

# A cancelled step's call is stopped within this; several renewals may fail before the lease of 15 s is over.
BEAT_SECONDS = 2.0


class Heart:
    """Keeps `holder` alive from `start` to `stop`."""

    def __init__(
        self,
        holder: Holder,
        leases: Leases,
        *,
        life: SessionLock,
        leadership: SessionLock,
        sweep: Sweep,
        in_flight: InFlight | None,
        refresh: Callable[[], None] | None = None,
        every_seconds: float = BEAT_SECONDS,
    ) -> None:
        """`life` is the lock with the worker's id, `leadership` that of the sweep.

        `refresh` brings up to date what the jobs only look up; it is called beside the sweep, elected or not.
        """
        self._holder = holder
        self._leases = leases
        self._life = life
        self._leadership = leadership
        self._sweep = sweep
        self._in_flight = in_flight
        self._refresh = refresh
        self._every_seconds = every_seconds
        self._stopping = threading.Event()
        self._no_sweep_before = 0.0
        self._locked = False
        self._threads: list[threading.Thread] = []

    def start(self, *, unless: threading.Event) -> None:
        """Take the lease, then keep it; waits for the database, since without a lease nothing may be claimed.

        Set `unless` to end the waiting: then nothing is started.
        """
        while not unless.is_set():
            self._locked = self._life.held()
            try:
                self._leases.renew(self._holder, [], locked=self._locked)
            except UnavailableError as error:
                log.warning("lease_not_taken", reason=str(error))
                unless.wait(self._every_seconds)
            else:
                self._start("lease", self._beat, self._life)
                self._start("sweep", self._maybe_sweep, self._leadership)
                return
        self._life.resign()

    def stop(self) -> None:
        """Stop both threads and give the lease up."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        try:
            self._leases.release(self._holder)
        except UnavailableError as error:
            log.warning("lease_not_released", reason=str(error))

    def _start(self, name: str, work: Callable[[], None], lock: SessionLock) -> None:
        thread = threading.Thread(target=self._repeat, args=(work, lock), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _repeat(self, work: Callable[[], None], lock: SessionLock) -> None:
        while not self._stopping.wait(self._every_seconds):
            try:
                work()
            except Exception:  # a thread that ended would leave a process at work without a lease, or without a sweep
                log.exception("heartbeat_failed", thread=threading.current_thread().name)
        # Here, since its session is this thread's; of a thread that hangs, it ends with the process.
        lock.resign()

    def _beat(self) -> None:
        try:
            renewal = self._leases.renew(self._holder, self._present(), locked=self._locked)
            for step_id, attempt in renewal.lost:
                self._stop(step_id, attempt)
            # What was claimed while the renewal was under way is no orphan.
            present = set(self._present())
            self._sweep.give_back([orphan for orphan in renewal.orphans if orphan not in present])
        except UnavailableError as error:
            # Others could not renew either, perhaps: nobody is declared dead until they had the time to.
            self._no_sweep_before = time.monotonic() + LEASE.total_seconds()
            log.warning("lease_not_renewed", reason=str(error))
        self._locked = self._life.held()

    def _present(self) -> Sequence[tuple[str, int]]:
        return self._in_flight.present() if self._in_flight else []

    def _stop(self, step_id: str, attempt: int) -> None:
        if self._in_flight:
            log.info("step_stopped", step_id=step_id, attempt=attempt)
            self._in_flight.stop(step_id, attempt)

    def _maybe_sweep(self) -> None:
        if self._leadership.held():
            self._sweep.run(reclaim=time.monotonic() >= self._no_sweep_before)
        if self._refresh is not None:  # last, so that its failure costs no sweep
            self._refresh()
