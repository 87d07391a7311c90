"""Breakers: when a model is left alone, who tries it again, and what does not count.  Without Redis, by one process."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pybreaker import CircuitBreakerError
from redis import Redis
from structlog.testing import capture_logs

from mesh.errors import ModelCallError
from mesh.models.board import Board
from mesh.models.breakers import OUT_SECONDS, Breakers
from mesh.testing import AwayRedis
from tests.unit.models.timeline import Timeline

PRIMARY, FALLBACK = "claude-sonnet-5-5", "gpt-4o"
RESET_SECONDS, PROBE_SECONDS = 30, 60


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def board(timeline: Timeline) -> Board:
    return Board(AwayRedis(), monotonic=timeline)


@pytest.fixture
def breakers(board: Board) -> Breakers:
    return Breakers(board, fail_max=5, reset_seconds=RESET_SECONDS, probe_seconds=PROBE_SECONDS)


def fail(breakers: Breakers, model: str, times: int = 5) -> None:
    for _ in range(times):
        breakers.failed(model)


def test_the_fifth_failure_in_a_row_opens_a_models_breaker_and_no_others(breakers: Breakers) -> None:
    fail(breakers, PRIMARY, 4)
    assert breakers.admits(PRIMARY)
    breakers.failed(PRIMARY)
    assert not breakers.admits(PRIMARY)
    assert breakers.open(PRIMARY)
    assert breakers.admits(FALLBACK)
    assert breakers.states() == {PRIMARY: "open"}


def test_a_success_makes_the_count_begin_anew(breakers: Breakers) -> None:
    fail(breakers, PRIMARY, 4)
    breakers.succeeded(PRIMARY)
    fail(breakers, PRIMARY, 4)
    assert breakers.admits(PRIMARY)


def test_when_the_time_is_over_one_may_try_and_the_others_wait_for_its_report(
    breakers: Breakers, timeline: Timeline
) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS - 0.1)
    assert not breakers.admits(PRIMARY)
    timeline.advance(0.1)
    assert [breakers.admits(PRIMARY) for _ in range(16)] == [True] + 15 * [False]
    assert breakers.states() == {PRIMARY: "half-open"}
    breakers.succeeded(PRIMARY)
    assert [breakers.admits(PRIMARY) for _ in range(3)] == [True] * 3
    assert breakers.states() == {}
    fail(breakers, PRIMARY, 4)
    assert breakers.admits(PRIMARY), "the count began anew as well"


def test_a_try_that_fails_opens_it_for_as_long_again(breakers: Breakers, timeline: Timeline) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)
    breakers.failed(PRIMARY)
    assert breakers.seconds_left(PRIMARY) == RESET_SECONDS
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)


def test_who_dies_while_trying_is_waited_for_no_longer_than_a_minute(breakers: Breakers, timeline: Timeline) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)
    timeline.advance(PROBE_SECONDS - 0.1)
    assert not breakers.admits(PRIMARY)
    timeline.advance(0.1)
    assert [breakers.admits(PRIMARY) for _ in range(3)] == [True, False, False]


def test_a_try_slower_than_that_still_closes_it(breakers: Breakers, timeline: Timeline) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)
    timeline.advance(PROBE_SECONDS * 2)
    breakers.succeeded(PRIMARY)
    assert breakers.states() == {}


def test_a_try_that_was_cancelled_lets_another_one_try(breakers: Breakers, timeline: Timeline) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)
    breakers.tell(PRIMARY, ModelCallError("cancelled", ""))
    assert [breakers.admits(PRIMARY) for _ in range(3)] == [True, False, False]


def test_a_primary_is_tried_in_time_however_the_calls_under_way_and_the_fallback_end(
    breakers: Breakers, timeline: Timeline
) -> None:
    """Neither late failures nor a fallback that fails as well keep a primary out for ever."""
    fail(breakers, PRIMARY)
    for _ in range(RESET_SECONDS):
        assert not breakers.admits(PRIMARY)
        timeline.advance(1)
        breakers.failed(PRIMARY)
        breakers.failed(FALLBACK)
    assert breakers.admits(PRIMARY)


def test_while_one_tries_no_other_calls_end_counts(breakers: Breakers, board: Board, timeline: Timeline) -> None:
    others = Breakers(board)
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert breakers.admits(PRIMARY)
    others.failed(PRIMARY)
    others.succeeded(PRIMARY)
    others.neither(PRIMARY)
    assert breakers.states() == {PRIMARY: "half-open"}
    breakers.succeeded(PRIMARY)
    assert others.admits(PRIMARY)


def test_a_report_that_crosses_anothers_opening_is_no_try(breakers: Breakers, board: Board) -> None:
    """Left to itself, pybreaker would half-open what it did not open."""
    fail(Breakers(board), PRIMARY)
    with pytest.raises(CircuitBreakerError):
        breakers._breaker(PRIMARY).call(lambda: None)
    assert breakers.states() == {PRIMARY: "open"}


def test_a_late_success_does_not_close_it(breakers: Breakers) -> None:
    fail(breakers, PRIMARY)
    breakers.succeeded(PRIMARY)
    assert not breakers.admits(PRIMARY)


def test_asking_whether_it_is_open_takes_nobodys_turn(breakers: Breakers, timeline: Timeline) -> None:
    fail(breakers, PRIMARY)
    timeline.advance(RESET_SECONDS)
    assert not breakers.open(PRIMARY)
    assert not breakers.open(PRIMARY)
    assert breakers.admits(PRIMARY)
    assert breakers.open(PRIMARY)


@pytest.mark.parametrize("code", ["bad_request", "context_too_long", "cancelled", "content_blocked", "invalid_reply"])
def test_what_is_not_the_models_fault_does_not_count(breakers: Breakers, code: str) -> None:
    for _ in range(20):
        breakers.tell(PRIMARY, ModelCallError(code, ""))
    fail(breakers, PRIMARY, 4)
    assert breakers.admits(PRIMARY)


@pytest.mark.parametrize("code", ["not_authorized", "model_not_found"])
def test_a_model_that_cannot_work_is_out_at_once_for_five_minutes_with_one_alert(
    breakers: Breakers, timeline: Timeline, code: str
) -> None:
    with capture_logs() as logs:
        for _ in range(64):
            breakers.tell(PRIMARY, ModelCallError(code, "", status=401))
    assert [(log["event"], log["log_level"], log["model"], log["reason"]) for log in logs] == [
        ("model_taken_out", "error", PRIMARY, code)
    ]
    timeline.advance(OUT_SECONDS - 0.1)
    assert not breakers.admits(PRIMARY)
    timeline.advance(0.1)
    assert breakers.admits(PRIMARY)
    with capture_logs() as logs:
        breakers.tell(PRIMARY, ModelCallError(code, "", status=401))
    assert len(logs) == 1
    assert breakers.seconds_left(PRIMARY) == OUT_SECONDS


def test_no_call_waits_for_another_one(breakers: Breakers) -> None:
    """Pybreaker's own way, a lock around the call, would take 64 x 50 ms."""
    started = time.perf_counter()

    def call(index: int) -> None:
        assert breakers.admits(PRIMARY)
        time.sleep(0.05)
        (breakers.failed if index % 16 == 0 else breakers.succeeded)(PRIMARY)

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(call, range(64)))
    assert time.perf_counter() - started < 1


def test_however_many_fail_at_once_it_opens_once_and_is_tried_in_time(breakers: Breakers, timeline: Timeline) -> None:
    with ThreadPoolExecutor(64) as threads:
        list(threads.map(breakers.failed, [PRIMARY] * 256))
    assert breakers.seconds_left(PRIMARY) == RESET_SECONDS
    timeline.advance(RESET_SECONDS)
    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(breakers.admits, [PRIMARY] * 16)) == [False] * 15 + [True]


def test_calls_that_go_well_cost_one_look_a_second_and_no_more(timeline: Timeline) -> None:
    asked = 0

    class Counting:
        def ask(self, _question: Callable[[Redis], object], /) -> None:
            nonlocal asked
            asked += 1

    breakers = Breakers(Board(Counting(), monotonic=timeline))
    for _ in range(100):
        assert breakers.admits(PRIMARY)
        breakers.succeeded(PRIMARY)
    assert asked == 1
    timeline.advance(1)
    assert breakers.admits(PRIMARY)
    assert asked == 2
