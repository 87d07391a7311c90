"""The control: the same six model calls as bare Celery jobs, chained by hand; nothing is stored, nothing survives.

`python -m tests.load.chain <redis url> <api base>` is its worker; `Chain` submits to it.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery
from redis import Redis

from mesh.agents.schemas import reply_schema
from mesh.models.litellm_calls import load_litellm

QUEUE = "control"
DONE = "control:done"
SPECIALISTS = 4
SLOTS = 32


def app(redis_url: str) -> Celery:
    """A Celery app without a result backend, its permits as lean as ours."""
    celery = Celery("control", broker=redis_url, set_as_current=False)
    celery.conf.update(
        task_ignore_result=True,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        task_default_queue=QUEUE,
        worker_hijack_root_logger=False,
    )
    return celery


def serve(redis_url: str, api_base: str) -> None:
    """Run the control's worker: decide, four specialists, conclude."""
    litellm = load_litellm()
    celery = app(redis_url)
    redis = Redis.from_url(redis_url)

    def ask() -> None:
        litellm.completion(
            model="openai/gpt-4o",
            messages=[{"role": "user", "content": PROMPT}],
            response_format={"type": "json_schema", "json_schema": reply_schema()},
            api_base=api_base,
            api_key="sandbox",
            max_retries=0,
            max_tokens=4000,
        )

    @celery.task(name="decide")
    def decide(task: str) -> None:
        ask()
        for _ in range(SPECIALISTS):
            celery.send_task("specialist", args=(task,))

    @celery.task(name="specialist")
    def specialist(task: str) -> None:
        ask()
        if redis.incr(f"control:{task}") == SPECIALISTS:
            celery.send_task("conclude", args=(task,))

    @celery.task(name="conclude")
    def conclude(task: str) -> None:
        ask()
        redis.delete(f"control:{task}")
        redis.lpush(DONE, task)

    celery.Worker(
        pool="threads",
        concurrency=SLOTS,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        loglevel="ERROR",
        quiet=True,
    ).start()


# As long as a specialist's prompt of ours.
PROMPT = json.dumps({"task": "Create an email campaign for TechPro X1", "filler": "x" * 5_000})


class Chain:
    """Submits tasks to the control's worker, and waits for them."""

    def __init__(self, redis_url: str) -> None:
        self._celery = app(redis_url)
        self._redis = Redis.from_url(redis_url, socket_timeout=None)
        self._count = 0

    def run(self) -> float:
        """One task alone; answers its seconds."""
        started = time.perf_counter()
        self._submit()
        self._wait(1)
        return time.perf_counter() - started

    def burst(self, count: int) -> float:
        """`count` tasks at once; answers the seconds until the last one's end."""
        started = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: self._submit(), range(count)))
        self._wait(count)
        return time.perf_counter() - started

    def _submit(self) -> None:
        self._count += 1
        self._celery.send_task("decide", args=(f"{time.time_ns()}-{self._count}",))

    def _wait(self, count: int) -> None:
        for _ in range(count):
            done: Any = self._redis.blpop([DONE], timeout=120)
            if done is None:
                raise RuntimeError("The control's worker does not answer.")


if __name__ == "__main__":
    serve(*sys.argv[1:3])
