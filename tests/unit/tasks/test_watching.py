"""Texts of running steps on their way to Redis: what is sent, how often, and what is void."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, cast

import pytest
from redis import Redis

from mesh.events.live import Command, decode
from mesh.events.texts import Texts
from mesh.tasks.claims import Claim
from mesh.tasks.watching import PERIOD_SECONDS, StepText, Watching
from mesh.testing import AwayRedis, FakeClock

CLAIM = Claim("step_1", "task_1", "ann", "q", "agent", 1, "k", "agent_1", "Writer", "content", "", [], 1, 0)
TEXT = 'Grüße, "you" 😀\n'


class FakeRedis:
    """Does what it is sent, and notes when; `watched` says whether the task is."""

    def __init__(self, *, watched: bool = True) -> None:
        self.watched = watched
        self.strings: dict[str, bytes] = {}
        self.tokens: list[dict[str, Any]] = []
        self.came: list[float] = []

    def send(self, commands: Sequence[Command]) -> None:
        for name, key, *rest in commands:
            if name == "SETRANGE":
                at, text = int(rest[0]), rest[1].encode()
                old = self.strings.get(key, b"").ljust(at, b"\0")
                self.strings[key] = old[:at] + text + old[at + len(text) :]
            elif name == "PUBLISH":
                self.tokens += [event.data for event in decode(rest[0].encode())]
                self.came.append(time.monotonic())
            elif name == "UNLINK":
                self.strings.pop(key, None)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.strings.get(key) for key in keys]

    def exists(self, key: str) -> int:
        assert "task_1" in key
        return int(self.watched)

    def ask(self, question: Callable[[Redis], Any]) -> Any:  # noqa: ANN401  # whatever the question returns
        return question(cast("Redis", self))


def step_text(redis: FakeRedis) -> StepText:
    return StepText(CLAIM, "network_1", "result", sender=redis, clock=FakeClock(), news=SimpleQueue())


def written(redis: FakeRedis, sequence: int) -> str | None:
    return Texts(cast("Redis", redis)).so_far({"step_1": sequence}).get("step_1")


def test_tokens_follow_each_other_and_the_text_so_far_is_there_before_each() -> None:
    redis = FakeRedis()
    text = step_text(redis)
    text.begin(7)
    raw = json.dumps({"reasoning": "r", "result": TEXT}, ensure_ascii=False)
    for piece in (raw[:30], raw[30:37], raw[37:]):
        text.feed(piece)
        text.show()
        assert (written(redis, 7) or "") == "".join(token["text"] for token in redis.tokens)
    assert "".join(token["text"] for token in redis.tokens) == TEXT
    offset = 0
    for token in redis.tokens:
        assert (token["offset"], token["sequence"], token["network_id"]) == (offset, 7, "network_1")
        offset += len(token["text"])


def test_the_rest_is_sent_before_the_end_and_nothing_after() -> None:
    redis = FakeRedis()
    text = step_text(redis)
    text.begin(7)
    text.feed('{"result": "All')
    text.close()
    text.feed(' of it"')
    text.show()
    assert [token["text"] for token in redis.tokens] == ["All"]
    assert redis.strings == {}


def test_another_model_begins_at_the_beginning_under_another_number() -> None:
    redis = FakeRedis()
    text = step_text(redis)
    text.begin(7)
    text.feed('{"result": "Old')
    text.show()
    text.feed(" and unsent")
    text.begin(9)
    text.feed('{"result": "New')
    text.show()
    assert [(token["sequence"], token["offset"], token["text"]) for token in redis.tokens] == [
        (7, 0, "Old"),
        (9, 0, "New"),
    ]
    assert written(redis, 7) is None
    assert written(redis, 9) == "New"


def test_a_text_whose_number_is_not_known_is_not_shown() -> None:
    redis = FakeRedis()
    text = step_text(redis)
    text.begin(None)
    text.feed('{"result": "Hidden"')
    text.close()
    assert redis.tokens == []


def test_what_redis_forgot_makes_no_text() -> None:
    redis = FakeRedis()
    text = step_text(redis)
    text.begin(7)
    for piece in ('{"result": "One', " two"):
        text.feed(piece)
        text.show()
        redis.strings = {} if piece.endswith("One") else redis.strings
    assert written(redis, 7) is None


@pytest.mark.parametrize("shared", [FakeRedis(watched=False), AwayRedis()])
def test_a_task_that_nobody_watches_has_no_text_to_show(shared: FakeRedis | AwayRedis) -> None:
    assert Watching(shared, FakeRedis(), FakeClock()).text_of(CLAIM, "network_1", "result") is None


def test_whether_a_task_is_watched_is_asked_once_for_steps_that_begin_together() -> None:
    redis, clock = FakeRedis(watched=False), FakeClock()
    watching = Watching(redis, redis, clock)
    for later, watched in ((0.0, False), (0.01, False), (0.05, True)):
        clock.advance(later)
        assert bool(watching.text_of(CLAIM, "network_1", "result")) is watched
        redis.watched = True
    redis.watched = False
    other = replace(CLAIM, task_id="task_10")
    assert watching.text_of(other, "network_1", "result") is None


def test_pieces_are_sent_twenty_times_a_second_at_most_and_the_first_one_at_once() -> None:
    redis = FakeRedis()
    text = Watching(redis, redis, FakeClock()).text_of(CLAIM, "network_1", "result")
    assert text is not None
    text.begin(7)
    began = time.monotonic()
    text.feed('{"result": "')
    fed = 0
    while time.monotonic() - began < 0.5:
        text.feed("word ")
        fed += 1
        time.sleep(0.002)
    text.close()
    assert "".join(token["text"] for token in redis.tokens) == "word " * fed
    assert 3 < len(redis.tokens) <= 0.5 / PERIOD_SECONDS + 2 < 12
    assert all(later - one >= PERIOD_SECONDS for one, later in zip(redis.came, redis.came[1:-1], strict=False))
