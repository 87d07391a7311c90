"""Faults at one exact moment, made to last until the blow is struck: by a lock on a task's row, or a Valkey that hangs.

What follows a commit (permits, live events) hangs with Valkey; it is killed as well then, since what it was sent while
it hung may stand in its socket.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress

import httpx
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.chaos.faults import Stage
from tests.system import Part, Up, eventually


def api_between_commit_and_publish(stage: Stage) -> None:
    """The API after a task is stored and before anybody was told.

    For some seconds after it found Valkey away it does not try to tell, and answers at once: then once more.
    """
    eventually(lambda: _caught_in_the_middle(stage), every=1.0)


def _caught_in_the_middle(stage: Stage) -> bool:
    up = stage.up
    url = f"{up.url}/api/mesh/networks/{stage.network_id}/tasks"
    name = f"Stored and not told at {time.time()}"
    with ThreadPoolExecutor(1) as caller, _hanging(up, "valkey") as valkey:
        answer = caller.submit(httpx.post, url, json={"task": name}, timeout=10, trust_env=False)
        _until(up, "SELECT 1 FROM tasks WHERE task = :name", name=name)
        if wait([answer], timeout=0.2).done:
            return False
        up.kill("api", whole=True)
        os.kill(valkey, signal.SIGKILL)
    assert isinstance(answer.exception(), httpx.TransportError), "it was to die before it answered"
    return True


def worker_between_claim_and_call(stage: Stage) -> None:
    """The worker when a step is its own and nothing is asked yet: no provider may hear of it.

    What it waits to write may still be written when it is dead: a call that is opened, and was never made.
    """
    up = stage.up
    with ExitStack() as held:
        with _hanging(up, "worker"):
            task_id = up.client.submit(stage.network_id)
            held.enter_context(_locked(up, task_id))
        _until(up, "SELECT 1 FROM steps WHERE task_id = :task_id AND state = 'running'", task_id=task_id)
        up.kill("worker")
    opened = up.rows("SELECT id FROM model_calls WHERE task_id = :task_id", task_id=task_id)
    assert not any(stage.sandbox.calls(call=call.id) for call in opened)


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
    with _hanging(up, "valkey") as valkey:
        _until(up, "SELECT 1 FROM steps WHERE task_id = :task_id AND state = 'succeeded'", task_id=task_id)
        up.kill("worker")
        os.kill(valkey, signal.SIGKILL)


def _until(up: Up, query: str, *, seconds: float = 20.0, **values: object) -> None:
    eventually(lambda: up.rows(query, **values), seconds, every=0.01)


@contextmanager
def _hanging(up: Up, part: Part) -> Iterator[int]:
    """The part is there and does nothing; goes on at the end, unless it was killed meanwhile."""
    eventually(lambda: up.pid(part))  # the last fault may have been its death
    pid = up.pid(part)
    assert pid, f"{part} has just died by itself"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _locked(up: Up, task_id: str) -> Iterator[None]:
    """Nobody else can change the task, nor begin or end a call for it."""
    engine = create_engine(up.database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE"), {"id": task_id})
        yield
