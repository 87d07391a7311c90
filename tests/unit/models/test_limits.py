"""Limits: which ones apply to a model, rests, and what a process takes by itself while Redis is away."""

from collections.abc import Callable

import pytest
from redis import Redis

from mesh.models.board import Board
from mesh.models.catalogue import Limit, Model
from mesh.models.limits import Grant, Limits, Wait
from mesh.testing import AwayRedis
from tests.builders import MODELS
from tests.unit.models.timeline import Timeline

GPT, MINI, CLAUDE = (MODELS.resolve(name) for name in ("gpt-4o", "gpt-4o-mini", "claude-sonnet-5-5"))


class Told:
    """A catalogue with these limits, of providers and of models."""

    def __init__(self, **limits: Limit) -> None:
        self._limits = limits

    def limits_of(self, model: Model) -> tuple[Limit | None, Limit | None]:
        return self._limits.get(model.provider), self._limits.get(model.name.replace("-", "_"))


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def limits_of(timeline: Timeline) -> Callable[..., Limits]:
    return lambda **limits: Limits(Board(AwayRedis(), monotonic=timeline), Told(**limits))


def granted(limits: Limits, model: Model, times: int, *, tokens: int = 0) -> int:
    """How many of so many calls may be made at once."""
    return sum(
        isinstance(limits.take(model, call_id=f"call_{model.name}_{n}", tokens=tokens), Grant) for n in range(times)
    )


def test_without_redis_a_process_takes_a_quarter_of_each_limit(limits_of: Callable[..., Limits]) -> None:
    limits = limits_of(openai=Limit(requests_per_minute=240), anthropic=Limit(concurrency=8))
    assert granted(limits, GPT, 50) == 10
    assert granted(limits, CLAUDE, 50) == 2


def test_a_single_slot_is_not_divided(limits_of: Callable[..., Limits]) -> None:
    assert granted(limits_of(openai=Limit(concurrency=1)), GPT, 5) == 1


def test_models_of_a_provider_share_its_limit_and_have_their_own(limits_of: Callable[..., Limits]) -> None:
    limits = limits_of(openai=Limit(requests_per_minute=240), gpt_4o=Limit(requests_per_minute=96))
    assert granted(limits, GPT, 50) == 4
    assert granted(limits, MINI, 50) == 6


def test_tokens_are_corrected_after_the_call(limits_of: Callable[..., Limits]) -> None:
    limits = limits_of(openai=Limit(tokens_per_minute=2400))
    grant = limits.take(GPT, call_id="call_1", tokens=100)
    assert isinstance(grant, Grant)
    refused = limits.take(GPT, call_id="call_2", tokens=50)
    assert isinstance(refused, Wait)
    assert refused.seconds == pytest.approx(5)
    limits.give_back(grant, 0)
    assert isinstance(limits.take(GPT, call_id="call_2", tokens=50), Grant)


def test_nobody_asks_a_model_that_rests_and_no_shorter_rest_changes_that(
    limits_of: Callable[..., Limits], timeline: Timeline
) -> None:
    limits = limits_of()
    limits.rest(GPT.name, 20)
    limits.rest(GPT.name, 5)
    assert limits.take(GPT, call_id="call_1", tokens=10) == Wait(20)
    assert isinstance(limits.take(MINI, call_id="call_2", tokens=10), Grant)
    timeline.advance(15)
    assert limits.resting(GPT.name) == 5
    timeline.advance(5)
    assert isinstance(limits.take(GPT, call_id="call_1", tokens=10), Grant)


def test_a_model_without_limits_costs_one_look_a_second_and_no_more(timeline: Timeline) -> None:
    asked = 0

    class Counting:
        def ask(self, _question: Callable[[Redis], object], /) -> None:
            nonlocal asked
            asked += 1

    limits = Limits(Board(Counting(), monotonic=timeline), Told())
    for n in range(100):
        grant = limits.take(GPT, call_id=f"call_{n}", tokens=1000)
        assert isinstance(grant, Grant)
        limits.give_back(grant, 500)
    assert asked == 1
    timeline.advance(1)
    limits.take(GPT, call_id="call_100", tokens=1000)
    assert asked == 2
