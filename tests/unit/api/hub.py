"""A hub between a fake log and a fake Redis, and the greenlets that read it."""

from collections.abc import Callable, Iterable, Mapping

import gevent
from gevent.queue import SimpleQueue
from redis.exceptions import ConnectionError as RedisConnectionError

from api.resources.streams import SSE
from api.stream_texts import TextsSent
from api.stream_topics import Reader
from api.streams import Hub
from mesh.errors import MeshError
from mesh.events.live import Live, LiveConnection, Standing
from mesh.events.log import EventLog, StoredEvent
from mesh.events.texts import Texts

TASK = "task_" + "1" * 26
KINDS = ["started", *["step_completed"] * 8, "complete"]


def event(sequence: int, kind: str = "step_completed") -> StoredEvent:
    return StoredEvent(sequence, kind, {"task_id": TASK, "sequence": sequence})


class FakeLog(EventLog):
    """Stored events, in a list."""

    def __init__(self) -> None:
        self.rows: list[StoredEvent] = []
        self.reads = 0
        self.down: type[MeshError] | None = None
        self.gone = False

    def has_task(self, task_id: str) -> bool:
        return task_id == TASK and not self.gone

    def after(self, task_id: str, sequence: int, limit: int = 500) -> list[StoredEvent]:
        self.reads += 1
        gevent.sleep(0)  # like a query, this lets others run
        if self.down:
            raise self.down("down")
        return self.rows[sequence : sequence + limit] if task_id == TASK else []

    def store(self, *kinds: str) -> list[StoredEvent]:
        new = [event(number, kind) for number, kind in enumerate(kinds, len(self.rows) + 1)]
        self.rows += new
        return new


class FakeRedis(LiveConnection):
    """A connection whose messages the test makes; None breaks it off."""

    def __init__(self) -> None:
        self.followed: set[str] = set()
        self.inbox: SimpleQueue[Standing | Live | None] = SimpleQueue()
        self.connections = 0
        self.down = False
        self.silent = False

    def connect(self) -> LiveConnection:
        if self.down:
            raise RedisConnectionError("down")
        self.connections += 1
        return self

    def follow(self, task_ids: Iterable[str]) -> None:
        for one in task_ids:
            self.followed.add(one)
            if not self.silent:
                self.inbox.put(Standing(one))

    def unfollow(self, task_ids: Iterable[str]) -> None:
        self.followed -= set(task_ids)

    def ping(self) -> None:
        return

    def receive(self) -> Standing | Live | None:
        message = self.inbox.get()
        if message is None:
            raise RedisConnectionError("broken off")
        return message

    def close(self) -> None:
        self.followed.clear()

    def publish(self, *events: StoredEvent) -> None:
        self.inbox.put(Live(TASK, list(events)))


class FakeTexts(Texts):
    """What is written so far, by step and number; `watched` are the tasks that were marked, in their order."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, int], str] = {}
        self.watched: list[str] = []
        self.down = False
        self.asked = 0
        self.hangs = False

    def watch(self, task_ids: Iterable[str]) -> None:
        self.asked += 1
        while self.hangs:
            gevent.sleep(0.001)
        if self.down:
            raise RedisConnectionError("down")
        self.watched += task_ids

    def so_far(self, texts: Mapping[str, int]) -> dict[str, str]:
        gevent.sleep(0)
        if self.down:
            raise RedisConnectionError("down")
        return {one[0]: self.written[one] for one in texts.items() if one in self.written}


class Stage:
    """A hub between a fake log and a fake Redis, and the greenlets that read it."""

    def __init__(self, *, beat_seconds: float = 60, poll_seconds: float = 0.01) -> None:
        self.log = FakeLog()
        self.redis = FakeRedis()
        self.texts = FakeTexts()
        self.live_keys = {"key_1"}
        self.hub = Hub(
            self.log,
            lambda key_id: key_id in self.live_keys,
            self.redis.connect,
            self.texts,
            beat_seconds=beat_seconds,
            poll_seconds=poll_seconds,
        )

    def read(self, position: int = 0) -> "Client":
        return Client(self.hub, Reader(SSE, position, key_id="key_1", connection=None))

    def watch(self, seen: int = 0) -> "Client":
        """As `read`, with tokens."""
        return Client(self.hub, Reader(SSE, 0, key_id="key_1", connection=None, texts=TextsSent(), seen=seen))


class Client:
    """One reader; `numbers` fills as it reads."""

    def __init__(self, hub: Hub, reader: Reader) -> None:
        self.reader = reader
        self.text = b""
        self.numbers: list[int] = []
        self.stream = hub.stream(TASK, reader)
        self.greenlet = gevent.spawn(self._read)

    def _read(self) -> None:
        for chunk in self.stream:
            self.text += chunk
            self.numbers += [int(line[3:]) for line in chunk.splitlines() if line.startswith(b"id:")]

    def leave(self) -> int:
        self.greenlet.kill()
        self.stream.close()  # type: ignore[attr-defined]  # a generator, behind the type Iterator
        return self.reader.position


def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    with gevent.Timeout(seconds):
        while not true():
            gevent.sleep(0.001)


def join(client: Client) -> None:
    client.greenlet.join(timeout=5)
    assert client.greenlet.dead
