"""Breakers in Redis: all processes leave a model alone together, and one of them tries; without it, each for itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from redis import Redis

from mesh.models.breakers import Breakers
from mesh.models.shared import SKIP_SECONDS
from tests.integration.models import sharing
from tests.integration.models.sharing import Ahead, board, breakers, waiting
from tests.integration.streams.stage import MortalRedis, until

MODEL = sharing.MODEL.name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalRedis]:
    redis = MortalRedis(tmp_path_factory.mktemp("breakers"))
    yield redis
    redis.kill()


@pytest.fixture
def redis(server: MortalRedis) -> MortalRedis:
    """A Valkey of these tests' own, with nothing in it."""
    with Redis.from_url(server.url) as client:
        client.flushall()
    return server


def fail(one: Breakers, times: int = 5) -> None:
    for _ in range(times):
        one.failed(MODEL)


def test_failures_are_counted_together_and_all_refuse_within_a_second(redis: MortalRedis) -> None:
    first, second, bystander = (breakers(redis.url) for _ in range(3))
    assert bystander.admits(MODEL)
    fail(first, 2)
    fail(second, 3)
    assert not second.admits(MODEL), "who opened it knows at once"
    until(lambda: not first.admits(MODEL), 1.5)
    until(lambda: not bystander.admits(MODEL), 1.5)


def test_a_success_of_another_process_makes_the_count_begin_anew(redis: MortalRedis) -> None:
    first, second = breakers(redis.url), breakers(redis.url)
    fail(first, 4)
    second.succeeded(MODEL)
    fail(first, 4)
    assert first.admits(MODEL)


def test_processes_of_their_own_see_each_others_and_reading_needs_neither_pybreaker_nor_litellm(
    redis: MortalRedis,
) -> None:
    code = """
import sys
from mesh.models.board import Board, breaker_states
from mesh.models.shared import SharedRedis
board = Board(SharedRedis(sys.argv[1]))
print(breaker_states(board), {"pybreaker", "litellm"} & set(sys.modules))
from mesh.models.breakers import Breakers
Breakers(board, fail_max=1).failed("another")
"""
    here = breakers(redis.url)
    fail(here)
    assert sharing.end(sharing.start(code, redis.url)).splitlines()[0] == f"{ {MODEL: 'open'} } set()"
    until(lambda: here.states() == {MODEL: "open", "another": "open"}, 1.5)
    assert not here.admits("another")


def test_one_of_sixteen_processes_tries(redis: MortalRedis) -> None:
    crowd = [breakers(redis.url, reset_seconds=0.2) for _ in range(16)]
    fail(crowd[0])
    for one in crowd:
        assert one.states() == {MODEL: "open"}
    until(lambda: not any(one.open(MODEL) for one in crowd))
    together = Barrier(16)

    def ask(one: Breakers) -> bool:
        together.wait()
        return one.admits(MODEL)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, crowd))
    assert sorted(answers) == [False] * 15 + [True]
    assert not any(one.admits(MODEL) for one in crowd)
    crowd[answers.index(True)].succeeded(MODEL)
    until(lambda: all(one.admits(MODEL) for one in crowd), 1.5)


def test_when_the_process_that_tries_dies_another_one_may(redis: MortalRedis) -> None:
    dying, other = (breakers(redis.url, reset_seconds=0.1, probe_seconds=0.4) for _ in range(2))
    fail(dying)
    until(lambda: dying.admits(MODEL))
    assert not other.admits(MODEL)
    until(lambda: other.admits(MODEL), 1.5)
    other.succeeded(MODEL)
    assert other.states() == {}


def test_who_has_not_heard_that_it_works_again_asks_all_the_same(redis: MortalRedis) -> None:
    first, unheard = (breakers(redis.url, reset_seconds=0.1) for _ in range(2))
    fail(first)
    assert unheard.states() == {MODEL: "open"}
    until(lambda: first.admits(MODEL))
    first.succeeded(MODEL)
    until(lambda: not unheard.open(MODEL))
    assert unheard.admits(MODEL)
    assert unheard.states() == {}


def test_without_redis_each_process_goes_on_by_itself_and_with_it_they_agree_again(redis: MortalRedis) -> None:
    clocks = [Ahead(), Ahead()]
    first, second = (Breakers(board(redis.url, clock), reset_seconds=60) for clock in clocks)
    assert first.admits(MODEL)
    assert second.admits(MODEL)
    redis.kill()
    try:
        fail(first)
        assert not first.admits(MODEL)
        fail(second, 4)
        assert second.admits(MODEL)
    finally:
        redis.start()
    for clock in clocks:
        clock.seconds += SKIP_SECONDS + 1
    assert not first.admits(MODEL), "what it learned meanwhile holds"
    fail(second)
    assert breakers(redis.url).states() == {MODEL: "open"}


def test_a_redis_that_hangs_is_waited_for_once(redis: MortalRedis) -> None:
    one = breakers(redis.url)
    assert one.admits(MODEL)
    redis.freeze()
    try:
        with waiting(1), ThreadPoolExecutor(64) as threads:
            list(threads.map(one.failed, [MODEL] * 64))
        with waiting(0):
            assert not one.admits(MODEL)
            one.succeeded(MODEL)
    finally:
        redis.thaw()
