"""The hub: one for a process, it brings a task's events to everybody here who reads its stream.

LiveConnection (Redis) and EventLog (rows) -> here -> api.resources.streams.  Rows are the truth and Redis makes them
fast: a reader joins its topic, waits until the subscription stands, reads the rows after its position, then takes what
is delivered.  A number that is not the next one means: read the rows again.
"""

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FrameType

import gevent
import structlog
from gevent.event import Event
from gevent.queue import Empty, SimpleQueue

from api.stream_topics import Batch, Piece, Reader, Signal, Topic
from mesh.errors import ContentionError, UnavailableError
from mesh.events.live import LOST, SKIP_SECONDS, Live, LiveConnection
from mesh.events.log import EventLog
from mesh.events.texts import WATCHED_SECONDS, Texts

READ_LIMIT = 200
JOIN_SECONDS = 1.0
MARK_SECONDS = 0.25
RECONNECT_SECONDS = (0.1, 2.0)
FAREWELL_MILLISECONDS = (500, 5_000)
WATCH_SECONDS = WATCHED_SECONDS / 3

log = structlog.get_logger(__name__)


class Hub:
    """Topics, and the greenlets that feed them; these start with the first reader, so after a server has forked."""

    def __init__(
        self,
        events: EventLog,
        key_is_live: Callable[[str], bool],
        connect: Callable[[], LiveConnection],
        texts: Texts,
        *,
        beat_seconds: float = 15.0,
        poll_seconds: float = 1.0,
    ) -> None:
        """`beat_seconds` lie between heartbeats, `poll_seconds` between looks at the rows while Redis is away."""
        self._events = events
        self._key_is_live = key_is_live
        self._connect = connect
        self._texts = texts
        self._beat_seconds = beat_seconds
        self._poll_seconds = poll_seconds
        self._topics: dict[str, Topic] = {}
        self._changed: SimpleQueue[str] = SimpleQueue()  # tasks that got their first reader, or lost their last
        self._watched: SimpleQueue[str] = SimpleQueue()  # tasks that got somebody who wants tokens
        self._behind: set[Topic] = set()  # topics whose rows have to be read
        self._wake = Event()
        self._away = False
        self._heard_at = float("-inf")
        self._poll_until = 0.0
        self._backoff_seconds = RECONNECT_SECONDS[0]
        self._started = False
        self._draining = False

    def stream(self, task_id: str, reader: Reader) -> Iterator[bytes]:
        """Every event of the task after the reader's position, once and in order, as bytes for the wire.

        It ends after the `complete` that is the last stored event, or when the reader is told to leave.
        """
        yield reader.wire.opening
        topic = self._join(task_id, reader)
        try:
            if not topic.standing.wait(JOIN_SECONDS):
                self._silent()
            yield from self._replay(topic, reader)
            if reader.texts is not None and not reader.complete:
                yield from self._catch_up_texts(reader, reader.texts.running)
            while not reader.complete:
                item = reader.take()
                if isinstance(item, Piece):
                    yield from self._show(reader, item)
                elif isinstance(item, Batch):
                    yield from self._forward(topic, reader, item)
                elif item is Signal.BEAT:
                    yield reader.wire.heartbeat
                else:
                    yield reader.wire.farewell(random.randint(*FAREWELL_MILLISECONDS))  # noqa: S311  # spreads load
                    return
        finally:
            self._leave(topic, reader)

    def listen(self, channel: str, reader: Reader) -> Callable[[], None]:
        """Have `reader` given what is published on `channel` from now on, and nothing else; the answer ends that.

        Raises:
            UnavailableError: Redis does not answer.
        """
        topic = self._join(channel, reader, stored=False)
        if topic.standing.wait(JOIN_SECONDS) and not self._away:
            return partial(self._leave, topic, reader)
        self._leave(topic, reader)
        raise UnavailableError("Redis does not answer, and this stream needs it; try again shortly.")

    def watch(self, task_id: str) -> None:
        """Have models stream to the task from now on; while somebody reads it with tokens that goes by itself.

        A Redis that hangs is waited for as long as `MARK_SECONDS`, and by those who come meanwhile; then it is away.
        """
        self._start()  # whether Redis answers is known by the time that somebody reads
        marking = gevent.spawn(self._mark, [task_id])
        marking.join(MARK_SECONDS)
        if not marking.ready():
            self._silent()

    def drain(self) -> None:
        """End all streams, telling each caller to come back in a while; those that open from now on end at once."""
        self._draining = True
        for reader in self._readers():
            reader.offer(Signal.DRAIN)

    def _forward(self, topic: Topic, reader: Reader, batch: Batch) -> Iterator[bytes]:
        news = batch.after(reader.position)
        if news is None:
            return
        if news.first == reader.position + 1:
            yield reader.send(news)
            if not reader.complete:
                return
        # A gap, or a `complete`, which a resumed task goes on after.
        yield from self._replay(topic, reader)

    def _show(self, reader: Reader, piece: Piece) -> Iterator[bytes]:
        if reader.texts is None:
            return
        if gap := reader.texts.gap(piece.token):
            yield from self._catch_up_texts(reader, gap)
        news = reader.texts.news(piece.token)
        if news is not None:
            yield piece.encoded(reader.wire) if news is piece.token else reader.wire.event(news)

    def _catch_up_texts(self, reader: Reader, wanted: Mapping[str, int]) -> Iterator[bytes]:
        if reader.texts is None or not wanted or self._away:
            return
        try:
            found = self._texts.so_far(wanted)
        except LOST as error:
            log.warning("texts_not_read", error=type(error).__name__)
            return
        for step_id, text in found.items():
            event = reader.texts.caught_up(step_id, text)
            if event is not None:
                yield reader.wire.event(event)

    def _replay(self, topic: Topic, reader: Reader) -> Iterator[bytes]:
        while not reader.ending:
            try:
                rows = self._events.after(topic.task_id, reader.position, READ_LIMIT)
            except (UnavailableError, ContentionError):
                yield reader.wire.heartbeat
                gevent.sleep(self._poll_seconds)
                continue
            if rows:
                yield reader.send(Batch(rows))
            if len(rows) < READ_LIMIT:
                topic.settle(reader.position)
                return

    def _join(self, task_id: str, reader: Reader, *, stored: bool = True) -> Topic:
        self._start()
        topic = self._topics.get(task_id)
        if topic is None:
            topic = self._topics[task_id] = Topic(task_id, stored=stored)
            self._changed.put(task_id)
            if self._away:
                topic.standing.set()
        topic.readers.add(reader)
        if reader.texts is not None:
            self._watched.put(task_id)
        if self._draining:
            reader.offer(Signal.DRAIN)
        return topic

    def _leave(self, topic: Topic, reader: Reader) -> None:
        topic.readers.discard(reader)
        if not topic.readers and self._topics.get(topic.task_id) is topic:
            del self._topics[topic.task_id]
            self._changed.put(topic.task_id)

    def _readers(self) -> list[Reader]:
        return [reader for topic in self._topics.values() for reader in topic.readers]

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for work in (self._listen, self._repair, self._poll, self._beat, self._mark_new, self._mark_all):
                gevent.spawn(self._forever, work)

    def _forever(self, work: Callable[[], None]) -> None:
        while True:
            try:
                work()
            except Exception:  # a fault in one part must not end all streams of this process
                log.exception("stream_hub_failed", part=work.__name__)
                gevent.sleep(self._poll_seconds)

    # Redis: `_listen` owns the connection; what it sends beside receiving is one greenlet of its own.

    def _listen(self) -> None:
        try:
            connection = self._connect()
            sender = gevent.spawn(self._send, connection)
            try:
                self._receive(connection)
            finally:
                sender.kill()
                connection.close()
        except LOST as error:
            if not self._away:
                log.warning("live_channel_lost", error=type(error).__name__)
        self._lost()
        gevent.sleep(self._backoff_seconds * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load
        self._backoff_seconds = min(2 * self._backoff_seconds, RECONNECT_SECONDS[1])

    def _send(self, connection: LiveConnection) -> None:
        changed = set(self._topics)
        try:
            while True:
                if wanted := changed & self._topics.keys():
                    connection.follow(wanted)
                if unwanted := changed - self._topics.keys():
                    connection.unfollow(unwanted)
                changed = self._next_changes()
                if not changed:
                    connection.ping()
        except LOST as error:
            log.debug("live_channel_not_sent_to", error=type(error).__name__)  # who receives finds out as well

    def _next_changes(self) -> set[str]:
        changed = set()
        try:
            changed.add(self._changed.get(timeout=self._poll_seconds))
            while True:
                changed.add(self._changed.get_nowait())
        except Empty:
            return changed

    def _receive(self, connection: LiveConnection) -> None:
        while True:
            message = connection.receive()
            self._heard_at = time.monotonic()
            if self._away:
                self._back()
            topic = self._topics.get(message.task_id) if message else None
            if topic is None:
                continue
            if isinstance(message, Live):
                if not topic.deliver(message.events):
                    self._read_again([topic])
                # What has arrived already is read without a switch, and readers would look stalled after a burst.
                gevent.sleep(0)
            else:
                topic.standing.set()
                if topic.position is not None:  # it was followed before: something may have been missed since
                    self._read_again([topic])

    def _lost(self) -> None:
        self._away = True
        self._poll_until = float("inf")
        for topic in self._topics.values():
            topic.standing.set()

    def _silent(self) -> None:
        """Redis does not answer in time: it counts as away until anything comes from it, unless just now something did.

        It is pinged every `poll_seconds`.
        """
        if not self._away and time.monotonic() - self._heard_at > self._poll_seconds + JOIN_SECONDS:
            log.warning("live_channel_silent")
            self._lost()

    def _back(self) -> None:
        self._away = False
        log.info("live_channel_back")
        self._backoff_seconds = RECONNECT_SECONDS[0]
        # Whoever failed to publish meanwhile still skips it for a while.
        self._poll_until = time.monotonic() + SKIP_SECONDS + self._poll_seconds

    # Rows: read for all readers of a topic at once.

    def _read_again(self, topics: Iterable[Topic]) -> None:
        self._behind.update(topics)
        self._wake.set()

    def _repair(self) -> None:
        self._wake.wait()
        self._wake.clear()
        while self._behind:
            topic = self._behind.pop()
            try:
                self._catch_up(topic)
            except (UnavailableError, ContentionError):
                self._behind.add(topic)
                gevent.sleep(self._poll_seconds)

    def _catch_up(self, topic: Topic) -> None:
        while topic.stored and topic.readers and topic.position is not None:
            # From the last one that was delivered: without that one the task itself is no longer there.
            rows = self._events.after(topic.task_id, max(0, topic.position - 1), READ_LIMIT)
            if rows:
                topic.deliver(rows)
            elif topic.position > 0 or not self._events.has_task(topic.task_id):
                topic.end(Signal.GONE)
            if len(rows) < READ_LIMIT:
                return

    # Redis: who wants tokens, for those who ask models.

    def _mark_new(self) -> None:
        self._mark([self._watched.get()])

    def _mark_all(self) -> None:
        gevent.sleep(WATCH_SECONDS)
        self._mark([topic.task_id for topic in self._topics.values() if topic.watched])

    def _mark(self, task_ids: Sequence[str]) -> None:
        if not task_ids or self._away:
            return
        try:
            self._texts.watch(task_ids)
        except LOST as error:
            log.warning("watched_tasks_not_marked", error=type(error).__name__)

    def _poll(self) -> None:
        gevent.sleep(self._poll_seconds)
        if time.monotonic() < self._poll_until:
            self._read_again(self._topics.values())

    def _beat(self) -> None:
        gevent.sleep(self._beat_seconds)
        for reader in self._readers():
            reader.offer(Signal.BEAT)
        # A PUBLISH that was lost shows by the next one; for the last one there is none.
        self._read_again(self._topics.values())
        for key_id in {reader.key_id for reader in self._readers() if reader.key_id}:
            try:
                live = self._key_is_live(key_id)
            except UnavailableError:
                log.warning("stream_keys_unchecked")  # without the database nothing is sent either
                return
            if not live:
                self._revoke(key_id)

    def _revoke(self, key_id: str) -> None:
        for reader in self._readers():
            if reader.key_id == key_id:
                reader.offer(Signal.REVOKED)


def install_drain(hub: Hub) -> None:
    """Have SIGTERM drain `hub`, beside what it did before; for gunicorn's `post_worker_init`.

    Gunicorn has no hook for SIGTERM in a worker: its handler only sets a flag, and streams would be held until
    `graceful_timeout`.
    """
    previous = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        gevent.spawn(hub.drain)  # not here: a handler may have interrupted anything
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGTERM, drain)
