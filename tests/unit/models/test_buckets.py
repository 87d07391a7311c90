"""Buckets and slots: exact to the moment, whatever was asked for and when."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.models.buckets import (
    BURST_SECONDS,
    SLOT_WAIT_SECONDS,
    Bucket,
    Demand,
    LocalBuckets,
    Slots,
    request_bucket,
    token_bucket,
)
from tests.unit.models.timeline import Timeline


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def local(timeline: Timeline) -> LocalBuckets:
    return LocalBuckets(timeline)


def demand(*buckets: Bucket, call_id: str = "call_1", tokens: int = 0, slots: int | None = None) -> Demand:
    return Demand(call_id, tokens, 600, buckets, () if slots is None else (Slots("calls", slots),))


def tokens(count: int) -> Demand:
    """Of 600 a minute: a bucket of 100."""
    return demand(token_bucket("tokens", 600, count), tokens=count)


def test_ten_seconds_worth_at_once_and_then_as_fast_as_the_limit(local: LocalBuckets, timeline: Timeline) -> None:
    request = demand(request_bucket("requests", 120))
    assert [local.take(request) for _ in range(20)] == [0] * 20
    assert local.take(request) == pytest.approx(0.5)
    timeline.advance(0.5)
    assert local.take(request) == 0
    assert local.take(request) == pytest.approx(0.5)
    timeline.advance(3600)
    assert [local.take(request) for _ in range(20)] == [0] * 20, "full again, and no fuller"
    assert local.take(request) > 0


def test_one_request_at_least_fits_into_the_smallest_limit(local: LocalBuckets, timeline: Timeline) -> None:
    request = demand(request_bucket("requests", 2))
    assert local.take(request) == 0
    assert local.take(request) == pytest.approx(30)
    timeline.advance(30)
    assert local.take(request) == 0


@settings(deadline=None)  # a loaded machine proves nothing
@given(per_minute=st.integers(1, 600), gaps=st.lists(st.floats(0, 20), min_size=1, max_size=60))
def test_no_minute_sees_more_than_the_limit_and_the_burst(per_minute: int, gaps: list[float]) -> None:
    timeline = Timeline()
    local = LocalBuckets(timeline)
    request = demand(request_bucket("requests", per_minute))
    passed: list[float] = []
    for gap in gaps:
        timeline.advance(gap)
        while local.take(request) == 0:
            passed.append(timeline())
    burst = max(1, per_minute * BURST_SECONDS / 60)
    for index, start in enumerate(passed):
        assert bisect_left(passed, start + 60) - index <= per_minute + burst


@settings(deadline=None)  # a loaded machine proves nothing
@given(per_minute=st.integers(1, 100_000), count=st.integers(1, 20_000), before=st.integers(0, 20_000))
def test_after_the_wait_it_passes(per_minute: int, count: int, before: int) -> None:
    timeline = Timeline()
    local = LocalBuckets(timeline)
    assert local.take(demand(token_bucket("tokens", per_minute, before))) == 0
    wanted = demand(token_bucket("tokens", per_minute, count))
    if wait := local.take(wanted):
        timeline.advance(wait)
        assert local.take(wanted) == 0


def test_tokens_that_were_not_used_come_back(local: LocalBuckets) -> None:
    assert local.take(tokens(100)) == 0
    assert local.take(tokens(40)) == pytest.approx(4)
    local.give_back(tokens(100), 60)
    assert local.take(tokens(40)) == pytest.approx(0)


def test_tokens_come_back_only_as_far_as_the_bucket_holds(local: LocalBuckets, timeline: Timeline) -> None:
    assert local.take(tokens(100)) == 0
    timeline.advance(60)
    local.give_back(tokens(100), 0)
    assert local.take(tokens(100)) == 0
    assert local.take(tokens(100)) == pytest.approx(10)


def test_tokens_used_beyond_the_estimate_are_owed(local: LocalBuckets) -> None:
    assert local.take(tokens(50)) == 0
    local.give_back(tokens(50), 250)
    assert local.take(tokens(10)) == pytest.approx(16)


def test_tokens_charged_after_the_bucket_was_full_again_are_owed_from_then_on(
    local: LocalBuckets, timeline: Timeline
) -> None:
    assert local.take(tokens(50)) == 0
    timeline.advance(60)
    local.give_back(tokens(50), 250)
    assert local.take(tokens(10)) == pytest.approx(11)


def test_more_than_the_bucket_holds_passes_when_it_is_full_and_is_owed(local: LocalBuckets, timeline: Timeline) -> None:
    assert local.take(tokens(10)) == 0
    assert local.take(tokens(1000)) == pytest.approx(1)
    timeline.advance(1)
    assert local.take(tokens(1000)) == pytest.approx(0)
    assert local.take(tokens(10)) == pytest.approx(91)


def test_a_call_that_is_refused_takes_nothing(local: LocalBuckets) -> None:
    request = request_bucket("requests", 60)
    assert local.take(demand(request, token_bucket("tokens", 600, 100))) == 0
    for _ in range(20):
        assert local.take(demand(request, token_bucket("tokens", 600, 100))) > 0
    assert [local.take(demand(request)) for _ in range(9)] == [0] * 9


def test_a_slot_is_held_until_it_is_given_back_or_its_lease_ends(local: LocalBuckets, timeline: Timeline) -> None:
    first, second, third = (demand(call_id=f"call_{n}", slots=2) for n in range(3))
    assert [local.take(one) for one in (first, second, third)] == [0, 0, SLOT_WAIT_SECONDS]
    local.give_back(first, 0)
    assert [local.take(one) for one in (third, first)] == [0, SLOT_WAIT_SECONDS]
    timeline.advance(600)
    assert [local.take(demand(call_id=f"later_{n}", slots=2)) for n in range(3)] == [0, 0, SLOT_WAIT_SECONDS]
