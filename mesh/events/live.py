"""The live channel: Redis Pub/Sub, which only makes stored events arrive sooner.

whoever committed events -> LivePublisher -> Redis -> LiveConnection -> api.streams.
One channel a task, one message a commit: a list of messages as flask-sse writes them, `{"data", "type", "id"}`.
Both sides use redis-py's connections directly, without pool, retries and measuring: a third of the CPU a message.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol, cast

import structlog
from redis import RedisError
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from mesh.events.log import StoredEvent

CHANNEL_PREFIX = "mesh:task:"
SKIP_SECONDS = 5.0
SILENCE_SECONDS = 3.0
MOST_AT_ONCE = 100

# A command of Redis, whose answer nobody needs.
Command = tuple[str, ...]

# What a connection raises that does not stand any more.
LOST = (RedisError, OSError)

log = structlog.get_logger(__name__)


class _Connection(Protocol):
    """What is used of redis-py's connections, which are only half typed; one that is closed connects when it sends."""

    is_connected: bool

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *command: str) -> None: ...
    def pack_commands(self, commands: Iterable[tuple[str, ...]]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self, *, disconnect_on_error: bool = True, timeout: float = ...) -> object: ...


def _connection(redis_url: str) -> _Connection:
    pool = ConnectionPool.from_url(
        redis_url, protocol=2, socket_connect_timeout=1, socket_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    return cast("_Connection", pool.make_connection())


def encode(events: Sequence[StoredEvent]) -> str:
    """Events of one commit as one message."""
    return json.dumps([{"data": one.data, "type": one.type, "id": one.sequence} for one in events])


def decode(message: bytes) -> list[StoredEvent]:
    """What `encode` was given.

    Raises:
        ValueError: somebody else made this.
    """
    try:
        return [StoredEvent(int(one["id"]), str(one["type"]), dict(one["data"])) for one in json.loads(message)]
    except (KeyError, TypeError) as error:
        raise ValueError("This is no list of events.") from error


class LivePublisher:
    """Announces stored events; losing one delays a stream, nothing more, so publishing never raises nor waits.

    One thread sends for all, in the order given: whatever has come together meanwhile goes in one round trip.  A server
    that hangs costs it 2 s (1 s to connect); then publishing is skipped for `SKIP_SECONDS`.
    """

    def __init__(self, redis_url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = _connection(redis_url)
        self._monotonic = monotonic
        self._skip_until = float("-inf")
        self._waiting: SimpleQueue[Sequence[Command] | threading.Event] = SimpleQueue()
        self._lock = threading.Lock()
        self._sender = threading.Thread()

    def publish(self, task_id: str, events: Sequence[StoredEvent]) -> None:
        """Send `events`, the task's next ones in their order, as one message; call it after their commit."""
        if events:
            self.send([("PUBLISH", CHANNEL_PREFIX + task_id, encode(events))])

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands that do no harm when they are lost, or are sent twice, in the order of what is published."""
        if not self._skipped():
            self._hand_over(commands)

    def flush(self, timeout_seconds: float) -> None:
        """Return when what was published has been sent, or given up: a process that ends sends nothing more."""
        done = threading.Event()
        self._hand_over(done)
        done.wait(timeout_seconds)

    def _skipped(self) -> bool:
        return self._monotonic() < self._skip_until

    def _hand_over(self, one: Sequence[Command] | threading.Event) -> None:
        self._waiting.put(one)
        with self._lock:
            if not self._sender.is_alive():
                self._sender = threading.Thread(target=self._send_all, name="live-events", daemon=True)
                self._sender.start()

    def _send_all(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < MOST_AT_ONCE and not self._waiting.empty():  # nobody else takes from it
                batch.append(self._waiting.get())
            self._try([command for one in batch if not isinstance(one, threading.Event) for command in one])
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _try(self, commands: Sequence[Command]) -> None:
        if not commands or self._skipped():
            return
        try:
            self._send(commands)
        except LOST as error:
            self._connection.disconnect()
            self._skip_until = self._monotonic() + SKIP_SECONDS
            log.warning("live_publish_failed", error=type(error).__name__, skipped_seconds=SKIP_SECONDS)

    def _send(self, commands: Sequence[Command]) -> None:
        reused = self._connection.is_connected
        try:
            self._exchange(commands)
        except RedisConnectionError:
            if not reused:
                raise
            # The server was restarted, or closed an idle connection; sent twice is as good as once.
            self._exchange(commands)

    def _exchange(self, commands: Sequence[Command]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        for _ in commands:
            self._connection.read_response()


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription stands: what is published on this task's channel from now on arrives here."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Live:
    """Events of one commit, as published; they may come late, twice, out of order, or never."""

    task_id: str
    events: list[StoredEvent]


class LiveConnection:
    """One Pub/Sub connection, for one owner: one greenlet may receive while another one sends.

    Every method raises RedisError or OSError when the connection is lost; it then stays lost.
    """

    def __init__(self, redis_url: str) -> None:
        """Connect."""
        self._connection = _connection(redis_url)
        self._connection.connect()
        self._unconfirmed: Counter[str] = Counter()

    def follow(self, task_ids: Iterable[str]) -> None:
        """Subscribe to these tasks; `Standing` answers, also for one that is followed already."""
        task_ids = list(task_ids)
        self._unconfirmed.update(task_ids)
        self._send("SUBSCRIBE", *(CHANNEL_PREFIX + one for one in task_ids))

    def unfollow(self, task_ids: Iterable[str]) -> None:
        """Unsubscribe from these tasks."""
        self._send("UNSUBSCRIBE", *(CHANNEL_PREFIX + one for one in task_ids))

    def ping(self) -> None:
        """Ask for a sign of life, which `receive` answers with None."""
        self._send("PING")

    def receive(self) -> Standing | Live | None:
        """Wait for what comes next; None is a sign of life without content.

        Raises:
            RedisError: also when nothing at all came for `SILENCE_SECONDS`; who calls this pings more often than that.
        """
        response = self._connection.read_response(disconnect_on_error=False, timeout=SILENCE_SECONDS)
        if not isinstance(response, list) or response[0] not in (b"subscribe", b"message"):
            return None
        task_id = response[1].decode().removeprefix(CHANNEL_PREFIX)
        return self._confirmed(task_id) if response[0] == b"subscribe" else self._published(task_id, response[2])

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _confirmed(self, task_id: str) -> Standing | None:
        self._unconfirmed[task_id] -= 1
        if self._unconfirmed[task_id]:  # left and joined again meanwhile: only the last answer holds
            return None
        del self._unconfirmed[task_id]
        return Standing(task_id)

    def _published(self, task_id: str, message: bytes) -> Live | None:
        try:
            events = decode(message)
        except ValueError:
            log.warning("live_message_unreadable", task_id=task_id, bytes=len(message))
            return None
        return Live(task_id, events) if events else None

    def _send(self, *command: str) -> None:
        if not self._connection.is_connected:  # else redis-py would make a new one, without the subscriptions
            raise RedisConnectionError("The Pub/Sub connection is closed.")
        self._connection.send_command(*command)
