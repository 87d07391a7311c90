"""The hub: every event once and in order, whatever the live channel does."""

import json

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.resources.streams import NDJSON, SSE
from api.stream_topics import STALLED_AT, Batch, Reader, Signal, Topic
from api.streams import READ_LIMIT
from mesh.errors import ContentionError, MeshError, UnavailableError
from mesh.events.log import StoredEvent
from tests.unit.api.hub import KINDS, TASK, Client, Stage, event, join, until

pytestmark = pytest.mark.usefixtures("no_greenlet_is_left")


def test_a_finished_task_is_replayed_and_ends() -> None:
    stage = Stage()
    stage.log.store(*KINDS)
    client = stage.read()
    join(client)
    assert client.numbers == list(range(1, 11))


def test_first_bytes_come_before_anything_else_is_known() -> None:
    stage = Stage()
    assert next(stage.hub.stream(TASK, Reader(SSE, 0, key_id=None, connection=None))) == b"retry: 2000\n: stream\n\n"
    assert stage.log.reads == 0


def test_live_events_come_without_reading_rows() -> None:
    stage = Stage()
    client = stage.read()
    until(lambda: stage.log.reads)
    for kind in KINDS[:-1]:
        stage.redis.publish(*stage.log.store(kind))
    until(lambda: len(client.numbers) == 9)
    assert stage.log.reads == 1
    client.leave()


def test_a_resumed_task_goes_on_after_its_first_complete() -> None:
    stage = Stage()
    stage.log.store("started", "complete", "started")
    client = stage.read()
    until(lambda: client.numbers == [1, 2, 3])
    stage.redis.publish(*stage.log.store("complete"))
    join(client)
    assert client.numbers == [1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.permutations(range(10)).flatmap(lambda order: st.lists(st.sampled_from(order), max_size=14)),
    stored_first=st.integers(0, 10),
)
def test_each_number_once_in_order_whatever_is_lost_doubled_or_late(arrivals: list[int], stored_first: int) -> None:
    stage = Stage(beat_seconds=0.02)
    early = stage.read()
    stage.log.store(*KINDS[:stored_first])
    late = stage.read()
    gevent.sleep(0)
    stage.log.store(*KINDS[stored_first:])
    for index in arrivals:
        stage.redis.publish(stage.log.rows[index])
        gevent.sleep(0)
    for client in (early, late):
        join(client)
        assert client.numbers == list(range(1, 11))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=8), data=st.data())
def test_any_split_into_reconnects_gives_each_number_once(cuts: list[int], data: st.DataObject) -> None:
    stage = Stage()
    seen: list[int] = []
    position = 0
    for cut in cuts:
        client = stage.read(position)
        for _ in range(data.draw(st.integers(0, 3))):
            stage.redis.publish(*stage.log.store("plan", "memory"))
        for _ in range(cut):
            gevent.sleep(0)
        position = client.leave()
        seen += client.numbers
    stage.log.store("complete")
    client = stage.read(position)
    join(client)
    assert seen + client.numbers == list(range(1, len(stage.log.rows) + 1))


def test_the_last_event_arrives_although_its_message_was_lost() -> None:
    stage = Stage(beat_seconds=0.05)
    client = stage.read()
    until(lambda: stage.log.reads)
    stage.log.store("started", "complete")
    join(client)
    assert client.numbers == [1, 2]


def test_a_gap_that_opened_while_a_reader_was_sending_is_read_again() -> None:
    stage = Stage()
    stage.log.store("started")
    stream = stage.hub.stream(TASK, Reader(SSE, 0, key_id=None, connection=None))
    next(stream)
    assert b"id:1" in next(stream)
    stage.log.store("plan", "complete")
    stage.redis.publish(stage.log.rows[2])
    until(stage.redis.inbox.empty)
    assert b"".join(stream).count(b"id:") == 2


def test_a_live_complete_that_is_not_the_last_event_ends_nothing() -> None:
    stage = Stage()
    client = stage.read()
    until(lambda: stage.log.reads)
    stage.log.store("started", "complete", "started")
    stage.redis.publish(*stage.log.rows[:2])
    until(lambda: client.numbers == [1, 2, 3])
    assert not client.greenlet.dead
    client.leave()


def test_a_message_that_is_news_in_part_is_delivered_in_part() -> None:
    topic, reader = Topic(TASK), Reader(SSE, 0, key_id=None, connection=None)
    topic.readers.add(reader)
    topic.settle(2)
    assert topic.deliver([event(1), event(2), event(3)])
    batch = reader.take()
    assert isinstance(batch, Batch)
    assert [one.sequence for one in batch.events] == [3]


def test_a_long_task_is_replayed_in_several_reads() -> None:
    stage = Stage()
    stage.log.store(*["plan"] * (2 * READ_LIMIT + 7), "complete")
    client = stage.read()
    join(client)
    assert client.numbers == list(range(1, 2 * READ_LIMIT + 9))
    assert stage.log.reads == 3


def test_what_was_missed_while_connecting_anew_is_read_once_the_subscription_stands() -> None:
    stage = Stage(poll_seconds=60)
    client = stage.read()
    until(lambda: stage.log.reads)
    stage.log.store("started", "complete")
    stage.redis.inbox.put(None)
    join(client)
    assert client.numbers == [1, 2]


def test_rows_are_read_once_for_all_readers_of_a_task_when_a_message_is_missing() -> None:
    stage = Stage()
    clients = [stage.read() for _ in range(50)]
    until(lambda: stage.log.reads == 50)
    stage.log.store("started", "plan", "memory")
    stage.redis.publish(stage.log.rows[0])
    stage.redis.publish(stage.log.rows[2])
    until(lambda: all(client.numbers == [1, 2, 3] for client in clients))
    assert stage.log.reads == 51
    for client in clients:
        client.leave()


def test_events_come_from_the_rows_while_redis_is_away_and_from_redis_when_it_is_back() -> None:
    stage = Stage()
    client = stage.read()
    until(lambda: stage.redis.followed)
    stage.redis.down = True
    stage.redis.inbox.put(None)
    until(lambda: not stage.redis.followed)
    stage.log.store("started", "plan")
    until(lambda: client.numbers == [1, 2])
    newcomer = stage.read()
    until(lambda: newcomer.numbers == [1, 2])
    stage.redis.down = False
    until(lambda: stage.redis.followed)
    stage.redis.publish(*stage.log.store("complete"))
    for one in (client, newcomer):
        join(one)
        assert one.numbers == [1, 2, 3]
    assert stage.redis.connections == 2


def test_events_come_from_the_rows_when_redis_does_not_confirm_a_subscription() -> None:
    stage = Stage()
    stage.redis.silent = True
    client = stage.read()
    until(lambda: stage.log.reads)
    stage.log.store("started", "complete")
    join(client)
    assert client.numbers == [1, 2]


def test_a_stream_waits_for_the_database_and_misses_nothing() -> None:
    stage = Stage()
    stage.log.store(*KINDS)
    stage.log.down = UnavailableError
    client = stage.read()
    until(lambda: b": hb" in client.text)
    stage.log.down = None
    join(client)
    assert client.numbers == list(range(1, 11))


def test_a_reader_that_stalls_is_cut_and_others_go_on() -> None:
    stage = Stage()
    stalled = Reader(SSE, 0, key_id=None, connection=None)
    asleep = stage.hub.stream(TASK, stalled)
    next(asleep)
    client = stage.read()
    until(lambda: stage.log.reads)
    stage.redis.publish(*stage.log.store("started"))
    until(lambda: client.numbers)
    next(asleep)  # has read the first row, and is stuck in sending it from now on
    for _ in range(STALLED_AT + 1):
        stage.redis.publish(*stage.log.store("plan"))
    until(lambda: len(client.numbers) == STALLED_AT + 2)
    assert stalled.ending
    assert not client.reader.ending
    rest = sum(chunk.count(b"id:") for chunk in asleep)
    assert rest == STALLED_AT
    again = stage.read(stalled.position)
    until(lambda: again.numbers == [STALLED_AT + 2])
    client.leave()
    again.leave()


def test_heartbeats_come_and_a_revoked_key_ends_its_streams_only() -> None:
    stage = Stage(beat_seconds=0.02)
    client = stage.read()
    other = Client(stage.hub, Reader(SSE, 0, key_id=None, connection=None))
    until(lambda: client.text.count(b": hb\n\n") >= 2)
    stage.live_keys.clear()
    join(client)
    beats = other.text.count(b": hb\n\n")
    until(lambda: other.text.count(b": hb\n\n") > beats)
    other.leave()


def test_draining_ends_streams_with_a_time_to_come_back_at() -> None:
    stage = Stage()
    stage.log.store("started")
    client = stage.read()
    until(lambda: client.numbers)
    stage.hub.drain()
    join(client)
    late = stage.read()
    join(late)
    for one in (client, late):
        assert 500 <= int(one.text.rsplit(b"retry: ", 1)[1]) <= 5000


def test_a_task_is_followed_only_while_somebody_reads_it() -> None:
    stage = Stage()
    first, second = stage.read(), stage.read()
    until(lambda: stage.redis.followed == {TASK})
    first.leave()
    gevent.sleep(0.05)
    assert stage.redis.followed == {TASK}
    second.leave()
    until(lambda: not stage.redis.followed)


def test_an_event_on_the_wire() -> None:
    odd = StoredEvent(7, "plan", {"text": "a\u2028b\nc"})
    assert SSE.event(odd) == b'event:plan\ndata:{"text": "a\\u2028b\\nc"}\nid:7\n\n'
    assert json.loads(NDJSON.event(odd)) == {"event": "plan", "text": "a\u2028b\nc"}
    assert NDJSON.event(odd).count(b"\n") == 1


def test_a_stream_ends_when_its_task_is_deleted_for_good() -> None:
    stage = Stage(beat_seconds=0.02)
    stage.log.store("started", "plan")
    client = stage.read()
    until(lambda: client.text.count(b": hb") > 1)
    assert client.numbers == [1, 2]
    stage.log.rows.clear()
    join(client)


def test_a_stream_of_a_task_that_never_began_ends_when_the_task_is_deleted_for_good() -> None:
    stage = Stage(beat_seconds=0.02)
    client = stage.read()
    until(lambda: client.text.count(b": hb") > 1)
    assert not client.greenlet.dead
    stage.log.gone = True
    join(client)


@pytest.mark.parametrize("error", [UnavailableError, ContentionError])
def test_neither_an_outage_nor_contention_ends_a_stream_or_the_repair_of_others(error: type[MeshError]) -> None:
    stage = Stage(poll_seconds=0.01)
    stage.log.down = error
    client = stage.read()
    until(lambda: b": hb" in client.text)
    stage.log.down = None
    stage.log.store("started")
    until(lambda: client.numbers == [1])
    stage.log.down = error
    stage.redis.publish(event(3, "plan"))  # number 2 is missing: the rows are read
    reads = stage.log.reads
    until(lambda: stage.log.reads > reads + 2)
    stage.log.store("plan", "complete")
    stage.log.down = None
    join(client)
    assert client.numbers == [1, 2, 3]


def test_a_channel_has_no_rows_that_heartbeats_or_a_new_connection_could_miss() -> None:
    """What it loses its reader sees by the numbers, and for as long as nothing is published it just waits."""
    stage, reader = Stage(beat_seconds=0.01), Reader(SSE, 0, key_id=None, connection=None)
    end = stage.hub.listen(TASK, reader)
    stage.redis.publish(event(1))
    assert isinstance(reader.take(), Batch)
    assert {reader.take(), reader.take()} == {Signal.BEAT}
    stage.redis.inbox.put(None)
    until(lambda: stage.redis.connections == 2)
    stage.redis.publish(event(3))
    lost = next(item for item in iter(reader.take, None) if item is not Signal.BEAT)
    assert isinstance(lost, Batch)
    assert lost.first == 3
    end()
