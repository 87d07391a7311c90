"""The long form of `tests.integration.streams.test_chaos`: whole tasks, and two APIs."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import pytest

from mesh.networks.views import AgentConfig
from tests.chaos.streams import STRIKES, Api, Faults, read_all
from tests.integration.streams.client import Seen
from tests.integration.workers.conftest import Fleet

READERS, TASKS = 200, 20
SPECIALISTS = [AgentConfig(f"{kind.capitalize()} Specialist", kind) for kind in ("content", "design", "analytics")]
# A task is a plan, three steps at once and a conclusion: with 16 slots, all of them take about half a minute.
LATENCY_SECONDS, JITTER_SECONDS = 2.0, 4.0
EVERY_SECONDS = 0.7
HANG_UP = 0.25
PATIENCE_SECONDS = 180.0


@pytest.mark.timeout(300)
def test_200_readers_of_20_tasks_get_every_event_once_in_order_whatever_happens(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.sandbox.latency(LATENCY_SECONDS, jitter=JITTER_SECONDS)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        apis = [Api(fleet, stack) for _ in range(2)]
        fleet.serving(fleet.worker(slots=16))
        network_id = fleet.network(*SPECIALISTS)
        tasks = [fleet.submit(network_id) for _ in range(TASKS)]
        readers = [(tasks[number % TASKS], Seen()) for number in range(READERS)]
        faults = Faults(fleet.mesh.settings.redis_url, apis[1])
        places = [(_addresses(apis, task_id, number), seen) for number, (task_id, seen) in enumerate(readers)]
        reading = pool.submit(asyncio.run, read_all(places, hang_up=HANG_UP, seconds=PATIENCE_SECONDS))
        _strike_until(reading, faults)
    _compare(fleet, readers)
    assert set(faults.struck) == set(STRIKES), "it was over too soon"
    connections = sum(seen.connections for _, seen in readers)
    with capsys.disabled():
        sys.stdout.write(f"\nstreams: {READERS} readers, {connections} connections, {dict(faults.struck)}\n")


def _addresses(apis: Sequence[Api], task_id: str, number: int) -> list[str]:
    """Some read tokens as well."""
    kind = "stream" if number % 3 == 0 else "events"
    return [f"{api.url}/tasks/{task_id}/{kind}" for api in apis]


def _strike_until(done: "Future[None]", faults: Faults) -> None:
    of_redis = [name for name in STRIKES if name != "api"]
    for number in count():
        if done.done():
            return done.result()
        faults.strike("api" if number == 10 else of_redis[number % len(of_redis)])
        time.sleep(EVERY_SECONDS)
    return None


def _compare(fleet: Fleet, readers: Sequence[tuple[str, Seen]]) -> None:
    stored = defaultdict(list)
    for row in fleet.rows("SELECT task_id, sequence, type FROM events ORDER BY task_id, sequence"):
        stored[row.task_id].append((row.sequence, row.type))
    for task_id, seen in readers:
        kinds = [kind for kind in seen.kinds if kind not in ("token", "partial")]
        assert list(zip(seen.numbers, kinds, strict=True)) == stored[task_id]
        assert seen.numbers == list(range(1, len(seen.numbers) + 1))
        assert kinds[-1] == "complete"
