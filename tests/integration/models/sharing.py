"""Several processes' breakers and limits on one Redis: in one test process, or in processes of their own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from structlog.testing import capture_logs

from mesh.models.board import Board
from mesh.models.breakers import Breakers
from mesh.models.catalogue import Limit, Model
from mesh.models.limits import Limits
from mesh.models.shared import SharedRedis
from tests.builders import MODELS

ROOT = Path(__file__).parents[3]
MODEL = MODELS.resolve("gpt-4o")


class Ahead:
    """The monotonic clock, which can be put forward."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.seconds


class Told:
    """A catalogue with one limit for a provider's models together and one for each."""

    def __init__(self, provider: Limit | None = None, model: Limit | None = None) -> None:
        self._limits = provider, model

    def limits_of(self, _model: Model, /) -> tuple[Limit | None, Limit | None]:
        return self._limits


def board(redis_url: str, clock: Ahead | None = None) -> Board:
    """What one process has."""
    clock = clock or Ahead()
    return Board(SharedRedis(redis_url, monotonic=clock), monotonic=clock)


def breakers(redis_url: str, *, reset_seconds: float = 30, probe_seconds: float = 60) -> Breakers:
    return Breakers(board(redis_url), reset_seconds=reset_seconds, probe_seconds=probe_seconds)


def limits(redis_url: str, provider: Limit | None = None, model: Limit | None = None) -> Limits:
    return Limits(board(redis_url), Told(provider, model))


@contextmanager
def waiting(times: int) -> Iterator[None]:
    """However many threads ask within: Redis, which does not answer, is waited for so often."""
    with capture_logs() as logs:
        yield
    assert [log["event"] for log in logs].count("shared_state_away") == times


def start(code: str, *args: str) -> "subprocess.Popen[str]":
    """A process that runs `code`, which may import the project."""
    return subprocess.Popen([sys.executable, "-c", code, *args], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]") -> str:
    """What it printed."""
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return printed
