"""Faults at one exact moment, made to last until the blow is struck: by a lock on a task's row, or a Valkey that hangs.

What follows a commit (permits, live events) hangs with Valkey; it is killed as well then, since what it was sent while
it hung may stand in its socket.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread

import httpx
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.chaos.faults import Stage
from tests.system import Part, Up, eventually


def api_between_commit_and_publish(stage: Stage) -> None:
    """The API after a task is stored and before anybody was told."""
    with _hanging_valkey(stage.up):
        name = f"Stored and not told at {time.time()}"
        Thread(target=_submit_in_vain, args=(stage, name), daemon=True).start()
        _until(stage.up, "SELECT 1 FROM tasks WHERE task = :name", seconds=2, name=name)
        stage.up.kill("api", whole=True)


def worker_between_claim_and_call(stage: Stage) -> None:
    """The worker when a step is its own and nothing is asked yet: nothing of it may be charged."""
    up = stage.up
    with ExitStack() as held:
        with _stopped(up, "worker"):
            task_id = up.client.submit(stage.network_id)
            held.enter_context(_locked(up, task_id))
        _until(up, "SELECT 1 FROM steps WHERE task_id = :task_id AND state = 'running'", task_id=task_id)
        up.kill("worker")
    assert not up.rows("SELECT 1 FROM model_calls WHERE task_id = :task_id", task_id=task_id)


def worker_between_reply_and_commit(stage: Stage) -> None:
    """The worker when a reply is in its hands and not stored: the one call that has to be paid twice."""
    up = stage.up
    task_id = up.client.submit(stage.network_id)
    query = "SELECT id FROM model_calls WHERE task_id = :task_id"
    _until(up, query, task_id=task_id)
    with _locked(up, task_id):
        call_id = up.rows(query, task_id=task_id)[0].id
        eventually(lambda: any(call["ended_at"] for call in stage.sandbox.calls(call=call_id)), every=0.02)
        _until(up, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        up.kill("worker")


def worker_between_commit_and_publish(stage: Stage) -> None:
    """The worker when a step's end is stored, and nobody was told of the steps that follow."""
    up = stage.up
    task_id = up.client.submit(stage.network_id)
    _until(up, "SELECT 1 FROM model_calls WHERE task_id = :task_id", task_id=task_id)
    with _hanging_valkey(up):
        _until(up, "SELECT 1 FROM steps WHERE task_id = :task_id AND state = 'succeeded'", task_id=task_id)
        up.kill("worker")


def _submit_in_vain(stage: Stage, name: str) -> None:
    url = f"{stage.up.url}/api/mesh/networks/{stage.network_id}/tasks"
    try:
        answer = httpx.post(url, json={"task": name}, timeout=10, trust_env=False)
    except httpx.TransportError:
        return
    raise AssertionError(f"The API was to die before it answered, and it answered {answer.status_code}.")


def _until(up: Up, query: str, *, seconds: float = 20.0, **values: object) -> None:
    eventually(lambda: up.rows(query, **values), seconds, every=0.01)


@contextmanager
def _hanging_valkey(up: Up) -> Iterator[None]:
    """Valkey takes connections and answers nothing; at the end it is killed, and comes back."""
    pid = up.pid("valkey")
    assert pid, "Valkey does not run"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def _stopped(up: Up, part: Part) -> Iterator[None]:
    pid = up.pid(part)
    assert pid, f"{part} does not run"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _locked(up: Up, task_id: str) -> Iterator[None]:
    """Nobody else can change the task, nor begin or end a call for it."""
    engine = create_engine(up.database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE"), {"id": task_id})
        yield
