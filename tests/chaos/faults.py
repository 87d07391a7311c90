"""The ways to hurt a running system, whatever it is doing; `moments` are those that wait for something."""

import os
import signal
from dataclasses import dataclass

from redis import Redis

from tests.sandbox import Sandbox
from tests.system import Up, eventually, processes


@dataclass(frozen=True)
class Stage:
    """What a fault may strike: a running system whose models are `sandbox`, and a network to submit to."""

    up: Up
    sandbox: Sandbox
    network_id: str


def worker(stage: Stage) -> None:
    """The agents' worker, while models answer it."""
    eventually(lambda: stage.sandbox.summary()["open"] >= 2, every=0.02)
    stage.up.kill("worker")


def api(stage: Stage) -> None:
    """Every process of the API."""
    stage.up.kill("api", whole=True)


def one_api_process(stage: Stage) -> None:
    """One of the processes that answer; the API's first one starts another."""
    first = stage.up.pid("api")
    assert first, "the API does not run"
    os.kill(min(processes(first)), signal.SIGKILL)


def beat(stage: Stage) -> None:
    """The scheduler."""
    stage.up.kill("beat")


def control(stage: Stage) -> None:
    """The worker for the system's own jobs."""
    stage.up.kill("worker-control")


def valkey(stage: Stage) -> None:
    """Valkey; what it had not written is lost."""
    stage.up.kill("valkey")


def flush(stage: Stage) -> None:
    """FLUSHALL: every permit and every live event is gone."""
    with Redis.from_url(stage.up.redis_url) as client:
        client.flushall()


def postmaster(stage: Stage) -> None:
    """Postgres's first process; the others end by themselves."""
    stage.up.kill("postgres")


def backend(stage: Stage) -> None:
    """One of Postgres's sessions, after which it ends all of them and recovers."""
    pids = stage.up.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'mesh-worker' LIMIT 1")
    assert pids, "the worker has no session"
    os.kill(pids[0].pid, signal.SIGKILL)
