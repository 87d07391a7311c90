"""Many readers, while announcements are lost or late, callers hang up, and Redis dies, hangs and forgets."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from redis import Redis

from mesh.events.types import Complete, Started
from tests.integration.streams.client import Seen, follow, read
from tests.integration.streams.stage import MortalRedis, StreamServer, Work, plan

EVENTS = 60


def test_200_readers_get_every_event_once_in_order_whatever_happens(
    server: StreamServer, work: Work, redis: MortalRedis
) -> None:
    tasks = [work.task() for _ in range(10)]
    everybody = [(server.events(tasks[number % len(tasks)]), Seen()) for number in range(200)]

    async def reading() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
            await asyncio.gather(*(follow(session, url, seen, hang_up=0.02) for url, seen in everybody))

    with ThreadPoolExecutor() as pool:
        readers = pool.submit(asyncio.run, reading())
        _work_through(tasks, work, redis)
        readers.result(timeout=60)
    for _, seen in everybody:
        assert seen.numbers == list(range(1, EVENTS + 1))
        assert seen.kinds[-1] == "complete"


def _work_through(tasks: list[str], work: Work, redis: MortalRedis) -> None:
    for task_id in tasks:
        work.happen_badly(task_id, Started("processing", 1))
    for number in range(2, EVENTS):
        for task_id in tasks:
            work.happen_badly(task_id, plan())
        if number == 20:
            redis.kill()
        elif number == 30:
            redis.start()
        elif number == 40:
            with Redis.from_url(redis.url) as client:
                client.flushall()
    for task_id in tasks:
        work.happen_badly(task_id, Complete("completed"))


def test_events_still_come_while_redis_hangs(server: StreamServer, work: Work, redis: MortalRedis, task: str) -> None:
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read, server.events(task))
        work.happen(task, Started("processing", 1))
        redis.freeze()
        began = time.monotonic()
        work.happen(task, plan(), Complete("completed"))
        published = time.monotonic() - began
        try:
            assert reading.result(timeout=15).numbers == [1, 2, 3]
        finally:
            redis.thaw()
    assert published < 3


def test_publishing_without_a_redis_is_quick_and_harmless(work: Work, redis: MortalRedis, task: str) -> None:
    work.happen(task, Started("processing", 1))
    redis.kill()
    began = time.monotonic()
    for _ in range(50):
        work.happen(task, plan())
    assert time.monotonic() - began < 3
    redis.start()


def test_a_publisher_that_was_idle_over_a_restart_of_redis_loses_nothing(
    work: Work, redis: MortalRedis, task: str
) -> None:
    work.happen(task, Started("processing", 1))
    redis.kill()
    redis.start()
    with Redis.from_url(redis.url) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(f"mesh:task:{task}")
        assert listener.get_message(timeout=1) is None
        work.happen(task, plan())
        while not (message := listener.get_message(timeout=5)):
            pass
    assert b'"id": 2' in message["data"]
