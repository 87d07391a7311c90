"""The consumer learns of a free slot at once, and is left alone while it has some; work from within leaves it half."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event

import pytest
from kombu.asynchronous import Hub
from structlog.testing import capture_logs

from workers.slots import SlotPool

SECONDS = 5.0


class _Hub(Hub):
    """Notes when it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = Event()

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        callback(*args)
        self.woken.set()


@contextmanager
def _running(pool: SlotPool, jobs: int) -> Iterator[list[Event]]:
    """As many jobs, each until its event is set."""
    ends = [Event() for _ in range(jobs)]
    begun = [pool.on_apply(end.wait, (SECONDS,), callback=lambda _: None).f for end in ends]
    try:
        yield ends
    finally:
        for end in ends:
            end.set()
        for job in begun:
            job.result(SECONDS)


@pytest.fixture
def pool() -> Iterator[SlotPool]:
    pool = SlotPool(2)
    yield pool
    pool.on_stop()


def test_a_slot_that_gets_free_in_a_full_pool_wakes_the_consumer(pool: SlotPool) -> None:
    hub = _Hub()
    pool.register_with_event_loop(hub)
    with _running(pool, jobs=2) as ends:
        assert not hub.woken.is_set()
        ends[0].set()
        assert hub.woken.wait(SECONDS)


def test_a_pool_with_free_slots_wakes_nobody(pool: SlotPool) -> None:
    hub = _Hub()
    pool.register_with_event_loop(hub)
    with _running(pool, jobs=1):
        pass
    pool.on_stop()
    assert not hub.woken.is_set()


def test_after_a_reconnection_it_is_the_new_loop_that_is_woken(pool: SlotPool) -> None:
    before, after = _Hub(), _Hub()
    pool.register_with_event_loop(before)
    pool.register_with_event_loop(after)
    with _running(pool, jobs=2):
        pass
    assert after.woken.wait(SECONDS)
    assert not before.woken.is_set()


def _wait(end: Event) -> None:
    end.wait(SECONDS)


def test_work_from_within_takes_a_slot_only_while_more_than_half_are_free() -> None:
    pool, hub, end = SlotPool(4), _Hub(), Event()
    pool.register_with_event_loop(hub)
    taken = [pool.take(partial(_wait, end)) for _ in range(3)]
    assert taken == [True, True, False]
    assert pool.num_processes == 2  # what is left is the consumer's to fill
    with _running(pool, jobs=2) as ends:
        assert not pool.take(end.set)
        assert not hub.woken.is_set()
        ends[0].set()
        assert hub.woken.wait(SECONDS)
    end.set()
    pool.on_stop()  # waits for what was taken
    assert pool.num_processes == 4


def test_work_from_within_that_breaks_gives_its_slot_back_and_says_so() -> None:
    pool = SlotPool(4)
    with capture_logs() as logs:
        assert pool.take(lambda: 1 // 0)  # type: ignore[arg-type]
        pool.on_stop()
    assert pool.num_processes == 4
    assert [entry["event"] for entry in logs] == ["job_broke"]


def test_a_pool_that_was_shut_down_takes_nothing() -> None:
    pool = SlotPool(4)
    pool.on_stop()
    assert not pool.take(lambda: None)
    assert pool.num_processes == 4
