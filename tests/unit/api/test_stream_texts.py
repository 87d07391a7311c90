"""Texts of running steps: each watcher is sent each character once, whatever is lost, late or doubled on the way."""

import json
from collections.abc import Sequence
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.resources.streams import SSE
from api.stream_texts import TextsSent
from api.stream_topics import Piece, Reader, Topic
from api.streams import MARK_SECONDS
from mesh.events.log import StoredEvent
from tests.unit.api.hub import TASK, Client, Stage, join, until

pytestmark = pytest.mark.usefixtures("no_greenlet_is_left")

STEP = "step_1"


class Worker:
    """Writes the text of one step on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.sequence = 0
        self.text = ""

    def happen(self, kind: str, *, announced: bool = True, **fields: object) -> StoredEvent:
        number = len(self.stage.log.rows) + 1
        data = {"task_id": TASK, "network_id": "network_1", "sequence": number, "step_id": STEP, **fields}
        event = StoredEvent(number, kind, data)
        self.stage.log.rows.append(event)
        if kind in ("step_started", "fallback"):
            self.sequence, self.text = number, ""
        if announced:
            self.stage.redis.publish(event)
        return event

    def write(self, text: str) -> StoredEvent:
        """Store a piece; its token is for the test to publish."""
        data: dict[str, Any] = {"task_id": TASK, "step_id": STEP, "sequence": self.sequence}
        token = StoredEvent(0, "token", data | {"offset": len(self.text), "text": text})
        self.text += text
        self.stage.texts.written[STEP, self.sequence] = self.text
        return token

    def say(self, text: str) -> None:
        self.stage.redis.publish(self.write(text))


def sent(client: Client) -> list[tuple[str, dict[str, Any]]]:
    """What a client got: kind and data."""
    blocks = [block.splitlines() for block in client.text.decode().split("\n\n") if block.startswith("event:")]
    return [(lines[0][6:], json.loads(lines[1][5:])) for lines in blocks]


def text_of(events: Sequence[tuple[str, dict[str, Any]]], text: str = "") -> str:
    """The step's text as a client puts it together, from `text` on; fails when something does not fit."""
    for kind, data in events:
        if kind in ("step_started", "fallback"):
            text = ""
        elif kind == "partial":
            text = data["text"]
        elif kind == "token":
            assert data["offset"] == len(text), (kind, data, text)
            text += data["text"]
    return text


def started() -> tuple[Stage, Worker]:
    stage = Stage()
    worker = Worker(stage)
    worker.happen("started")
    worker.happen("step_started")
    return stage, worker


def test_a_watcher_is_sent_tokens_and_a_reader_of_events_is_not() -> None:
    stage, worker = started()
    watcher, reader = stage.watch(), stage.read()
    until(lambda: watcher.numbers == reader.numbers == [1, 2])
    worker.say("Hello")
    worker.say(" you")
    worker.happen("complete")
    join(watcher)
    join(reader)
    assert [kind for kind, _ in sent(watcher)] == ["started", "step_started", "token", "token", "complete"]
    assert text_of(sent(watcher)) == "Hello you"
    assert watcher.numbers == reader.numbers == [1, 2, 3]
    assert b"token" not in reader.text


def test_who_comes_late_is_sent_the_text_so_far_and_goes_on_from_there() -> None:
    stage, worker = started()
    worker.say("Hel")
    watcher, again = stage.watch(), stage.watch(seen=2)
    until(lambda: b"partial" in watcher.text and b"partial" in again.text)
    worker.say("lo")
    until(lambda: b"token" in watcher.text and b"token" in again.text)
    assert [kind for kind, _ in sent(watcher)] == ["started", "step_started", "partial", "token"]
    assert [kind for kind, _ in sent(again)] == ["partial", "token"]
    assert text_of(sent(watcher)) == text_of(sent(again)) == "Hello"
    assert sent(again)[0][1]["sequence"] == 2


def test_a_finished_step_has_no_partial_text() -> None:
    stage, worker = started()
    worker.say("Hello")
    worker.happen("step_completed")
    watcher = stage.watch()
    until(lambda: watcher.numbers == [1, 2, 3])
    gevent.sleep(0.01)
    assert b"partial" not in watcher.text


def test_a_token_that_overtakes_the_event_it_follows_waits_for_it() -> None:
    stage, worker = started()
    watcher = stage.watch()
    until(lambda: watcher.numbers == [1, 2])
    worker.happen("fallback", announced=False, restarted=True)
    worker.say("Anew")
    until(lambda: b"token" in watcher.text)
    assert [kind for kind, _ in sent(watcher)] == ["started", "step_started", "fallback", "token"]


def test_what_a_model_said_before_it_was_given_up_is_void() -> None:
    stage, worker = started()
    watcher = stage.watch()
    until(lambda: watcher.numbers == [1, 2])
    late = worker.write("Old")
    worker.happen("fallback", restarted=True)
    stage.redis.publish(late)
    worker.say("New")
    until(lambda: b"New" in watcher.text)
    assert text_of(sent(watcher)) == "New"


def test_a_text_with_a_hole_is_not_gone_on_with_until_it_begins_anew() -> None:
    stage, worker = started()
    watcher = stage.watch()
    until(lambda: watcher.numbers == [1, 2])
    worker.say("One ")
    worker.write("two ")
    stage.texts.written.clear()  # Redis forgot
    token = worker.write("three")
    stage.texts.written.clear()
    stage.redis.publish(token)
    worker.happen("fallback", restarted=True)
    worker.say("Anew")
    until(lambda: b"Anew" in watcher.text)
    assert [data["text"] for kind, data in sent(watcher) if kind == "token"] == ["One ", "Anew"]


def test_without_redis_events_go_on() -> None:
    stage, worker = started()
    stage.texts.down = True
    watcher = stage.watch()
    until(lambda: watcher.numbers == [1, 2])
    worker.write("lost")
    worker.say(" and more")
    worker.happen("complete")
    join(watcher)
    assert watcher.numbers == [1, 2, 3]
    assert b"token" not in watcher.text


def test_a_redis_that_hangs_is_waited_for_once_and_a_moment_and_streams_go_on_without_it() -> None:
    stage = Stage()
    stage.texts.hangs = True
    with gevent.Timeout(2 * MARK_SECONDS):
        stage.hub.watch(TASK)
    with gevent.Timeout(MARK_SECONDS / 2):
        stage.hub.watch("task_2")
    assert stage.texts.asked == 1
    watcher = stage.watch()
    until(lambda: stage.log.reads)
    stage.log.store("started", "complete")  # and nobody announces it
    join(watcher)


def test_a_slow_answer_says_nothing_of_a_redis_that_was_heard_just_now() -> None:
    stage, _ = started()
    stage.texts.hangs = True
    stage.hub.watch("task_2")
    stage.hub.listen("channel", Reader(SSE, 0, key_id=None, connection=None))()  # else it would not be to be had


def test_a_task_is_marked_as_watched_at_once_and_only_by_who_wants_tokens() -> None:
    stage, _ = started()
    reader = stage.read()
    until(lambda: reader.numbers)
    assert stage.texts.watched == []
    watcher = stage.watch()
    until(lambda: stage.texts.watched == [TASK])
    assert [topic.watched for topic in stage.hub._topics.values()] == [True]
    watcher.leave()
    assert [topic.watched for topic in stage.hub._topics.values()] == [False]


def test_a_token_is_encoded_once_for_all_who_need_the_whole_of_it() -> None:
    topic, readers = Topic(TASK), [Stage().watch().reader for _ in range(2)]
    topic.readers.update(readers)
    token = StoredEvent(0, "token", {"step_id": STEP, "sequence": 1, "offset": 0, "text": "x"})
    assert topic.deliver([token])
    first, second = (reader.take() for reader in readers)
    assert isinstance(first, Piece)
    assert first is second


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=20))
def test_tokens_of_any_overlap_never_repeat_a_character(tokens: list[tuple[int, int]]) -> None:
    whole = "abcdefghijklmnopqrstuvwxyz"
    texts = TextsSent()
    about = {"task_id": TASK, "network_id": "n", "step_id": STEP}
    texts.learn([StoredEvent(1, "step_started", about)])
    shown = ""
    for offset, size in tokens:
        token = StoredEvent(0, "token", {**about, "sequence": 1, "offset": offset, "text": whole[offset:][:size]})
        if not texts.gap(token) and (news := texts.news(token)) is not None:
            shown = text_of([(news.type, news.data)], shown)
    assert whole.startswith(shown)


MOVES = st.sampled_from(["say", "say", "say", "lose", "twice", "late", "fallback", "lost fallback", "join", "leave"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(MOVES, st.integers(0, 3)), max_size=25))
def test_every_watcher_ends_with_the_whole_text_whenever_it_came(moves: list[tuple[str, int]]) -> None:
    stage, worker = started()
    watchers = [stage.watch()]
    held: list[StoredEvent] = []
    for number, (move, turns) in enumerate(moves):
        if move in ("say", "lose", "twice", "late"):
            token = worker.write(f"<{number}>")
            held += [token] if move == "late" else []
            for _ in range({"say": 1, "twice": 2}.get(move, 0)):
                stage.redis.publish(token)
        elif move == "join":
            watchers.append(stage.watch(seen=len(stage.log.rows) if turns else 0))
        elif move == "leave":
            position = watchers[-1].leave()
            text_of(sent(watchers[-1]))
            watchers[-1] = stage.watch(seen=position)
        else:
            worker.happen("fallback", announced=move == "fallback", restarted=True)
        while held and turns == 3:
            stage.redis.publish(held.pop())
        for _ in range(turns):
            gevent.sleep(0)
    until(lambda: all(STEP in (one.reader.texts.running if one.reader.texts else {}) for one in watchers))
    worker.say("<end>")
    until(lambda: all(b"<end>" in one.text for one in watchers))
    for watcher in watchers:
        assert text_of(sent(watcher)) == worker.text
        watcher.leave()
