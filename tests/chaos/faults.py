"""The ways to hurt a running system, each at a moment that matters."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Thread

import httpx
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


def api_between_commit_and_publish(stage: Stage) -> None:
    """The API after a task is stored and before anybody was told: Valkey hangs, so that publishing does.

    Valkey is killed as well, since what it was sent while it hung may stand in its socket.
    """
    up = stage.up
    valkey = up.pid("valkey")
    assert valkey, "Valkey does not run"
    # Connections that the hanging Valkey cannot accept are accepted for it by the system: publishing waits for replies.
    os.kill(valkey, signal.SIGSTOP)
    name = f"Stored and not told at {time.time()}"
    Thread(target=_submit_in_vain, args=(stage, name), daemon=True).start()
    query = "SELECT 1 FROM tasks WHERE task = :name"
    eventually(lambda: up.rows(query, name=name), 2.0, every=0.01)
    up.kill("api", whole=True)
    os.kill(valkey, signal.SIGKILL)


def _submit_in_vain(stage: Stage, name: str) -> None:
    try:
        url = f"{stage.up.url}/api/mesh/networks/{stage.network_id}/tasks"
        answer = httpx.post(url, json={"task": name}, timeout=10, trust_env=False)
    except httpx.TransportError:
        return
    raise AssertionError(f"The API was to die before it answered, and it answered {answer.status_code}.")


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


FAULTS: Mapping[str, Callable[[Stage], None]] = {
    fault.__name__: fault
    for fault in (
        worker,
        api,
        api_between_commit_and_publish,
        one_api_process,
        beat,
        control,
        valkey,
        flush,
        postmaster,
        backend,
    )
}
