"""Many readers, while announcements are lost or late, callers hang up, and Redis dies, hangs and forgets.

The short form; `make chaos` runs the long one, with whole tasks and two APIs.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from redis import Redis

from mesh.events.live import Live, LiveConnection, LivePublisher, Standing
from mesh.events.log import StoredEvent
from mesh.events.types import Complete, Started
from tests.integration.streams.client import Seen, follow, read
from tests.integration.streams.stage import MortalRedis, StreamServer, Work, plan, until

EVENTS = 60
FLUSH_SECONDS = 4.0


def test_200_readers_get_every_event_once_in_order_whatever_happens(
    server: StreamServer, work: Work, redis: MortalRedis
) -> None:
    tasks = [work.task() for _ in range(10)]
    everybody = [([server.events(tasks[number % len(tasks)])], Seen()) for number in range(200)]

    async def reading() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
            await asyncio.gather(*(follow(session, urls, seen, hang_up=0.02) for urls, seen in everybody))

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


def test_events_still_come_while_redis_hangs(
    serve: Callable[..., StreamServer], work: Work, redis: MortalRedis, task: str
) -> None:
    server = serve()
    seen = Seen()
    work.connect()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read, server.events(task), seen=seen)
        work.happen(task, Started("processing", 1))
        until(lambda: seen.numbers)
        redis.freeze()
        began = time.monotonic()
        work.happen(task, plan(), Complete("completed"))
        published = time.monotonic() - began
        try:
            assert reading.result(timeout=10).numbers == [1, 2, 3]
        finally:
            redis.thaw()
    assert published < 0.5, "a Redis that hangs holds up nobody who publishes"


def test_publishing_without_a_redis_is_quick_and_harmless(work: Work, redis: MortalRedis, task: str) -> None:
    work.connect()
    work.happen(task, Started("processing", 1))
    redis.kill()
    began = time.monotonic()
    for _ in range(50):
        work.happen(task, plan())
    redis.start()
    assert time.monotonic() - began < 3


def test_a_publisher_that_was_idle_over_a_restart_of_redis_loses_nothing(redis: MortalRedis) -> None:
    publisher = LivePublisher(redis.url)
    publisher.publish("task_1", [StoredEvent(1, "started", {})])
    publisher.flush(FLUSH_SECONDS)
    redis.kill()
    redis.start()
    with Redis.from_url(redis.url) as client, client.pubsub() as listener:
        listener.subscribe("mesh:task:task_1")
        confirmed, published = listener.listen(), listener.listen()
        assert next(confirmed)["type"] == "subscribe"
        publisher.publish("task_1", [StoredEvent(2, "plan", {})])
        assert b'"id": 2' in next(published)["data"]


def test_publishing_is_skipped_for_5_seconds_after_a_failure_and_then_works_again(redis: MortalRedis) -> None:
    seconds = 0.0
    publisher = LivePublisher(redis.url, monotonic=lambda: seconds)
    redis.kill()
    publisher.publish("task_1", [StoredEvent(1, "started", {})])
    publisher.flush(FLUSH_SECONDS)
    redis.start()
    with Redis.from_url(redis.url) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("mesh:task:task_1")
        for sequence, seconds in enumerate((4.9, 5.0), start=2):  # noqa: B007  # read by the publisher's clock
            publisher.publish("task_1", [StoredEvent(sequence, "plan", {})])
            publisher.flush(FLUSH_SECONDS)
        assert b'"id": 3' in next(listener.listen())["data"]


def test_what_threads_publish_together_arrives_in_the_order_of_each_task(redis: MortalRedis) -> None:
    publisher, listener = LivePublisher(redis.url), LiveConnection(redis.url)
    tasks = [f"task_{number}" for number in range(4)]
    listener.follow(tasks)
    assert [listener.receive() for _ in tasks] == [Standing(task_id) for task_id in tasks]

    def happen(task_id: str) -> None:
        for sequence in range(1, EVENTS + 1):
            publisher.publish(task_id, [StoredEvent(sequence, "plan", {})])

    with ThreadPoolExecutor(len(tasks)) as pool:
        list(pool.map(happen, tasks))
    arrived = [listener.receive() for _ in range(len(tasks) * EVENTS)]
    listener.close()
    for task_id in tasks:
        mine = [one.events[0].sequence for one in arrived if isinstance(one, Live) and one.task_id == task_id]
        assert mine == list(range(1, EVENTS + 1))
