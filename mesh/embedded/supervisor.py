"""Supervisor: starts parts in the order of their needs, starts them again when they die, stops them in reverse.

cli.up, tests -> here -> process.spawn.  One thread does all of it: children get their death signal when the thread that
started them ends, and this one lives until everything has stopped, or as long as the process.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.embedded.process import tail
from mesh.errors import UnavailableError

TICK_SECONDS = 0.02  # one waitpid a part: 0.6% of a core for eight parts
FIRST_DELAY_SECONDS = 0.1
LAST_DELAY_SECONDS = 5.0
# After a part's own kill signal: Postgres takes 5 s until it kills those of its processes that do not end.
LAST_RESORT_SECONDS = 8.0
STABLE_SECONDS = 10.0


@dataclass(frozen=True)
class Part:
    """One process of the system.

    `spawn` starts it with its output in `log`; `ready` tells, within about a second, whether it serves (None: as soon
    as it runs); `needs` names the parts that must be ready before it starts, and that stop only after it.  Dying
    `tries` times in a row is an error to those who wait for readiness; else it is started again for ever.
    `stop_signal` asks it to end, after `grace_seconds` `kill_signal` makes it, and `last_resort_seconds` later SIGKILL.
    """

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    log: Path
    ready: Callable[[], bool] | None = None
    needs: tuple[str, ...] = ()
    tries: int = 3
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10.0
    last_resort_seconds: float = LAST_RESORT_SECONDS


@dataclass
class _Child:
    """A part and the process that is it at present."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    failures: int = 0  # deaths in a row
    log_offset: int = 0
    started_at: float = 0.0
    start_at: float = field(default_factory=time.monotonic)
    stop_at: float | None = None  # when a graceful stop becomes a kill

    def start(self) -> None:
        self.log_offset = self.part.log.stat().st_size if self.part.log.exists() else 0
        self.started_at = time.monotonic()
        self.process = self.part.spawn()

    def ended(self) -> int | None:
        """The exit code, once: what is left of the process's group is gone then."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        with suppress(ProcessLookupError):  # the usual case: nothing is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process, self.ready = None, False
        return code

    def plan_restart(self) -> float:
        """Decide when to start again; returns the delay in seconds."""
        now = time.monotonic()
        if now - self.started_at >= STABLE_SECONDS:
            self.failures = 0
        self.failures += 1
        delay = min(FIRST_DELAY_SECONDS * 2.0 ** (self.failures - 1), LAST_DELAY_SECONDS)
        self.start_at = now + delay
        return delay

    def stop(self, *, now: bool) -> None:
        """Ask the process to end, once; make it end when its grace is over, or `now`."""
        assert self.process is not None  # noqa: S101  # for the type checker
        late = time.monotonic() - self.stop_at if self.stop_at is not None else 0.0
        if now or (self.stop_at is not None and late >= 0):
            sure = (
                late > self.part.last_resort_seconds
            )  # a part may have been stopped, or be beyond its own kill signal
            with suppress(ProcessLookupError):  # it may have ended since it was looked at
                os.killpg(self.process.pid, signal.SIGKILL if sure else self.part.kill_signal)
        elif self.stop_at is None:
            self.stop_at = time.monotonic() + self.part.grace_seconds
            self.process.send_signal(self.part.stop_signal)

    def last_words(self) -> str:
        return f"{self.part.name} (log: {self.part.log}):\n{tail(self.part.log, offset=self.log_offset)}"


class Supervisor:
    """Keeps parts alive; a context manager that leaves no process behind."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        """`say` gets one line each time that a part had to be started again; it is called from another thread."""
        self._say = say
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()
        self._killing = threading.Event()
        self._ended = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="supervisor", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def add(self, *parts: Part) -> None:
        """Start each of `parts` as soon as those that it needs are ready; does not wait."""
        self._children |= {part.name: _Child(part) for part in parts}

    @property
    def names(self) -> tuple[str, ...]:
        """The parts added so far."""
        return tuple(self._children)

    def pid(self, name: str) -> int | None:
        """The present process of the part `name`; None between two of them."""
        process = self._children[name].process
        return process.pid if process else None

    def wait_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Return when every part added so far is ready.

        Raises:
            UnavailableError: it took too long, or a part keeps dying; quotes the ends of the logs concerned.
        """
        self.wait_until(lambda: all(child.ready for child in self._children.values()), timeout_seconds=timeout_seconds)

    def wait_until(
        self, condition: Callable[[], bool], *, timeout_seconds: float, every_seconds: float = TICK_SECONDS
    ) -> None:
        """Return when `condition` holds.

        Raises:
            UnavailableError: as `wait_ready`.
        """
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if self._failure:
                raise self._failure
            children = self._children.values()
            if dying := [child for child in children if child.failures >= child.part.tries]:
                raise UnavailableError("\n".join(f"Could not start {child.last_words()}" for child in dying))
            if time.monotonic() > deadline:
                late = "\n".join(child.last_words() for child in children if not child.ready)
                raise UnavailableError(f"Not ready after {timeout_seconds:g} s. {late}".rstrip())
            self._ended.wait(every_seconds)

    def wait(self) -> None:
        """Sleep until a signal handler raises an exception, or until supervising itself fails, and raise that."""
        self._ended.wait()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """End all parts, those that others need after those others; a Ctrl-C meanwhile kills them at once."""
        self._stopping.set()
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self._killing.set()
            self._ended.wait()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(TICK_SECONDS):
                for child in list(self._children.values()):
                    self._tend(child)
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            self._failure = error
        try:
            while self._stop_next():
                time.sleep(TICK_SECONDS)
        finally:
            self._ended.set()

    def _tend(self, child: _Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at and all(self._children[name].ready for name in child.part.needs):
                child.start()
        elif (code := child.ended()) is not None:
            delay = child.plan_restart()
            self._say(f"{child.part.name} {_end(code)}; starting it again in {delay:g} s (log: {child.part.log})")
        elif not child.ready:
            child.ready = child.part.ready is None or child.part.ready()

    def _stop_next(self) -> bool:
        """Move the stop one step on; False when nothing runs any more."""
        running = []
        for child in self._children.values():
            child.ended()
            if child.process:
                running.append(child)
        needed = {name for child in running for name in child.part.needs}
        for child in running:
            if self._killing.is_set() or child.part.name not in needed:
                child.stop(now=self._killing.is_set())
        return bool(running)


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
