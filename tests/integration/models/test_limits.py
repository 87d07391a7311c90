"""Limits in Redis: however many processes there are, together they ask for no more than a limit."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from redis import Redis

from mesh.models.buckets import SLOT_WAIT_SECONDS
from mesh.models.catalogue import Limit
from mesh.models.limits import Grant, Limits, Wait
from mesh.models.shared import SKIP_SECONDS
from tests.integration.models import sharing
from tests.integration.models.sharing import MODEL, Ahead, Told, board, limits, waiting
from tests.integration.streams.stage import MortalRedis, until

# One a second, and ten at once.
REQUESTS = Limit(requests_per_minute=60)
# Ten a second, and a hundred at once.
TOKENS = Limit(tokens_per_minute=600)

calls = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalRedis]:
    redis = MortalRedis(tmp_path_factory.mktemp("limits"))
    yield redis
    redis.kill()


@pytest.fixture
def redis(server: MortalRedis) -> MortalRedis:
    """A Valkey of these tests' own, with nothing in it."""
    with Redis.from_url(server.url) as client:
        client.flushall()
    return server


@pytest.fixture
def unanswering_url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def take(one: Limits, *, tokens: int = 0, lease_seconds: float = 600) -> Grant | Wait:
    return one.take(MODEL, call_id=f"call_{next(calls)}", tokens=tokens, lease_seconds=lease_seconds)


def granted(one: Limits, times: int) -> int:
    return sum(isinstance(take(one), Grant) for _ in range(times))


def test_two_processes_share_a_limit_to_the_request(redis: MortalRedis) -> None:
    both = [limits(redis.url, REQUESTS) for _ in range(2)]
    started = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        passed = sum(threads.map(granted, both * 8, [10] * 16))
    assert 10 <= passed <= 10 + (time.monotonic() - started) + 1


def test_processes_of_their_own_share_it_too(redis: MortalRedis) -> None:
    code = """
import sys
from types import SimpleNamespace
from mesh.models.board import Board
from mesh.models.catalogue import Limit
from mesh.models.limits import Grant, Limits
from mesh.models.shared import SharedRedis
told = SimpleNamespace(limits_of=lambda model: (Limit(requests_per_minute=60), None))
one = Limits(Board(SharedRedis(sys.argv[1])), told)
model = SimpleNamespace(name="gpt-4o", provider="openai")
taken = [one.take(model, call_id=f"call_{sys.argv[2]}_{n}", tokens=0) for n in range(50)]
print(sum(isinstance(answer, Grant) for answer in taken))
"""
    started = time.monotonic()
    processes = [sharing.start(code, redis.url, str(n)) for n in range(2)]
    passed = sum(int(sharing.end(process)) for process in processes)
    assert 10 <= passed <= 10 + (time.monotonic() - started) + 1


def test_the_wait_is_what_the_bucket_needs(redis: MortalRedis) -> None:
    one = limits(redis.url, TOKENS)
    assert isinstance(take(one, tokens=100), Grant)
    refused = take(one, tokens=20)
    assert isinstance(refused, Wait)
    assert refused.seconds == pytest.approx(2, abs=0.2)
    short = take(one, tokens=3)
    assert isinstance(short, Wait)
    time.sleep(short.seconds)
    assert isinstance(take(one, tokens=3), Grant)


def test_tokens_are_corrected_for_all(redis: MortalRedis) -> None:
    first, second = limits(redis.url, TOKENS), limits(redis.url, TOKENS)
    grant = take(first, tokens=100)
    assert isinstance(grant, Grant)
    assert isinstance(take(second, tokens=50), Wait)
    first.give_back(grant, 10)
    more = take(second, tokens=80)
    assert isinstance(more, Grant)
    second.give_back(more, 190)
    refused = take(first, tokens=0)
    assert isinstance(refused, Wait)
    assert refused.seconds == pytest.approx(10, abs=0.3), "a hundred more than there were are owed"


def test_a_request_that_was_never_sent_comes_back_for_all(redis: MortalRedis) -> None:
    first, second = limits(redis.url, REQUESTS), limits(redis.url, REQUESTS)
    for _ in range(30):
        grant = take(first)
        assert isinstance(grant, Grant)
        first.give_back(grant, 0, sent=False)
    assert granted(second, 20) == pytest.approx(10, abs=1)


def test_what_is_not_used_fills_no_bucket_beyond_its_size(redis: MortalRedis) -> None:
    one = limits(redis.url, TOKENS)
    grant = take(one, tokens=10)
    assert isinstance(grant, Grant)
    for _ in range(3):
        one.give_back(grant, 0)
    assert isinstance(take(one, tokens=100), Grant)
    assert isinstance(take(one, tokens=20), Wait)


def test_more_than_the_bucket_holds_passes_when_it_is_full(redis: MortalRedis) -> None:
    one = limits(redis.url, TOKENS)
    assert isinstance(take(one, tokens=1000), Grant)
    refused = take(one, tokens=1000)
    assert isinstance(refused, Wait)
    assert refused.seconds == pytest.approx(100, abs=0.3)


def test_what_the_models_own_limit_refuses_takes_nothing_of_the_providers(redis: MortalRedis) -> None:
    both = limits(redis.url, REQUESTS, Limit(requests_per_minute=6))
    assert granted(both, 5) == 1
    assert granted(limits(redis.url, REQUESTS), 20) == pytest.approx(9, abs=1)


def test_slots_are_counted_over_processes_and_those_of_the_dead_come_back(redis: MortalRedis) -> None:
    first, second = (limits(redis.url, Limit(concurrency=3)) for _ in range(2))
    dies = take(first, lease_seconds=0.5)
    ends = take(first)
    assert isinstance(ends, Grant)
    assert isinstance(take(second), Grant)
    assert take(second) == Wait(SLOT_WAIT_SECONDS)
    first.give_back(ends, 0)
    assert isinstance(take(second), Grant)
    assert isinstance(dies, Grant)
    assert isinstance(take(second), Wait)
    until(lambda: isinstance(take(second), Grant), 2)


def test_a_rest_is_kept_by_all_within_a_second(redis: MortalRedis) -> None:
    told, other = limits(redis.url), limits(redis.url)
    assert isinstance(take(other), Grant)
    told.rest(MODEL.name, 30)
    told.rest(MODEL.name, 1)
    waits = take(told)
    assert isinstance(waits, Wait)
    assert waits.seconds == pytest.approx(30, abs=0.2)
    until(lambda: other.resting(MODEL.name) > 28, 1.5)
    assert isinstance(take(other), Wait)


def test_a_redis_that_forgot_the_scripts_gets_them_again(redis: MortalRedis) -> None:
    one = limits(redis.url, REQUESTS)
    assert granted(one, 4) == 4
    with Redis.from_url(redis.url) as client:
        client.script_flush()
    assert granted(one, 20) == pytest.approx(6, abs=1)


def test_without_redis_each_takes_a_quarter_and_with_it_they_share_again(redis: MortalRedis) -> None:
    clocks = [Ahead(), Ahead()]
    first, second = (Limits(board(redis.url, clock), Told(Limit(requests_per_minute=240))) for clock in clocks)
    assert granted(first, 4) == 4
    redis.kill()
    try:
        assert granted(first, 20) == 10
        assert granted(second, 20) == 10
    finally:
        redis.start()
    for clock in clocks:
        clock.seconds += SKIP_SECONDS + 1
    started = time.monotonic()
    together = granted(first, 40) + granted(second, 40)
    assert 36 <= together <= 40 + 4 * (time.monotonic() - started) + 1


def test_a_redis_that_was_started_again_meanwhile_is_asked_at_once(redis: MortalRedis) -> None:
    one = limits(redis.url, Limit(requests_per_minute=240))
    assert granted(one, 1) == 1
    redis.kill()
    redis.start()
    grant = take(one)
    assert isinstance(grant, Grant)
    assert grant.shared


def test_a_redis_that_hangs_is_waited_for_once(redis: MortalRedis) -> None:
    one = limits(redis.url, Limit(requests_per_minute=240))
    assert isinstance(take(one), Grant)
    redis.freeze()
    try:
        started = time.monotonic()
        with waiting(1), ThreadPoolExecutor(64) as threads:
            passed = sum(isinstance(answer, Grant) for answer in threads.map(lambda _: take(one), range(64)))
        assert 10 <= passed <= 10 + (time.monotonic() - started) + 1
        with waiting(0):
            take(one)
    finally:
        redis.thaw()


def test_a_server_that_accepts_and_never_answers_costs_less_than_a_third_of_a_second_once(
    unanswering_url: str,
) -> None:
    """The least of three: others use the machine as well."""
    seconds = []
    for _ in range(3):
        one = limits(unanswering_url, REQUESTS)
        started = time.monotonic()
        with waiting(1):
            assert isinstance(take(one), Grant)
        seconds.append(time.monotonic() - started)
        with waiting(0):
            take(one)
    assert min(seconds) < 1 / 3
