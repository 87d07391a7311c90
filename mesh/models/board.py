"""The board: what all processes know of models that had better not be asked now, and until when.

breakers, limits -> here -> shared.  A process reads it whole, at most once a second, and looks things up in its copy;
what it puts on the board itself it sees at once.  While Redis is away the copy goes on by itself.  Needs neither
pybreaker nor LiteLLM: the API reads the breakers' states here.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from redis import Redis

from mesh.models.shared import Shared

ENTRIES = "mesh:models:board"
COUNTS = "mesh:models:counts"
FRESH_SECONDS = 1.0
BREAKER = "breaker:"
# The tag of a model that nobody asks until somebody has seen to it; the failure's code follows.
OUT = "out:"

Rule = Literal["always", "due", "longer"]

_PUT = Path(__file__).with_name("board_put.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under a name, and until when, by this process's monotonic clock."""

    tag: str
    until: float


class Board:
    """Names with a tag and an instant, and names with a count."""

    def __init__(self, redis: Shared, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.redis = redis
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self._fresh_until = float("-inf")
        self._entries: dict[str, Entry] = {}
        self._counts: dict[str, int] = {}
        # Put while Redis was away: holds until its instant, also when Redis is back and does not know of it.
        self._own: dict[str, Entry] = {}

    def entry(self, name: str) -> Entry | None:
        """What stands under `name`, as it was at most a second ago; it stays there when its instant has passed."""
        self._freshen()
        return self._entries.get(name)

    def entries(self) -> dict[str, Entry]:
        """All that stands on the board, as it was at most a second ago."""
        self._freshen()
        return dict(self._entries)

    def seconds_left(self, name: str) -> float:
        """How long the instant under `name` is away; 0 when it has passed, or there is none."""
        entry = self.entry(name)
        return max(0.0, entry.until - self.monotonic()) if entry else 0.0

    def counted(self, name: str) -> int:
        """The count under `name`, as it was at most a second ago."""
        self._freshen()
        return self._counts.get(name, 0)

    def put(self, name: str, tag: str, seconds: float, *, rule: Rule = "always") -> bool:
        """Put `tag` under `name` until `seconds` from now; whether `rule` let it (see board_put.lua)."""
        with self._lock:
            milliseconds = round(seconds * 1000)
            put: int | None = self.redis.ask(
                lambda client: client.register_script(_PUT)(keys=[ENTRIES], args=[name, tag, milliseconds, rule])
            )
            if put is None:
                return self._put_here(name, Entry(tag, self.monotonic() + seconds), rule)
            if put:
                self._own.pop(name, None)
                self._entries[name] = Entry(tag, self.monotonic() + seconds)
            else:  # another process has moved it
                self._read()
            return bool(put)

    def drop(self, name: str) -> None:
        """Take `name` off the board, and its count."""
        with self._lock:
            self.redis.ask(lambda client: _forget(client, name, ENTRIES, COUNTS))
            for known in (self._entries, self._own, self._counts):
                known.pop(name, None)

    def count(self, name: str) -> None:
        """Add one to the count of `name`."""
        with self._lock:
            count: Any = self.redis.ask(lambda client: client.hincrby(COUNTS, name))
            self._counts[name] = self._counts.get(name, 0) + 1 if count is None else count

    def uncount(self, name: str) -> None:
        """Set the count of `name` to zero."""
        with self._lock:
            self.redis.ask(lambda client: _forget(client, name, COUNTS))
            self._counts.pop(name, None)

    def _freshen(self) -> None:
        if self.monotonic() < self._fresh_until:
            return
        with self._lock:
            if self.monotonic() >= self._fresh_until:
                self._read()

    def _read(self) -> None:
        read = self.redis.ask(_read_all)
        now = self.monotonic()
        if read is not None:
            (seconds, microseconds), entries, counts = read
            there = seconds * 1000 + microseconds / 1000
            self._own = {name: entry for name, entry in self._own.items() if entry.until > now}
            known = {name: _entry(text, now, there) for name, text in entries.items()}
            self._entries = known | self._own
            self._counts = {name: int(count) for name, count in counts.items()}
        self._fresh_until = now + FRESH_SECONDS

    def _put_here(self, name: str, entry: Entry, rule: Rule) -> bool:
        """What board_put.lua does, while Redis is away."""
        held = self._entries.get(name)
        if rule == "due" and (held is None or self.monotonic() < held.until):
            return False
        if rule == "longer" and held is not None and entry.until < held.until:
            return False
        self._entries[name] = self._own[name] = entry
        return True


def breaker_states(board: Board) -> dict[str, str]:
    """The models whose breaker is `open` or `half-open` (asked once, to see whether it works again), by name.

    All others' are closed.
    """
    return {
        name.removeprefix(BREAKER): breaker_state(entry)
        for name, entry in board.entries().items()
        if name.startswith(BREAKER)
    }


def breaker_state(entry: Entry) -> str:
    """`open` or `half-open`; a model that is taken out has an open one."""
    return "open" if entry.tag.startswith(OUT) else entry.tag


def _entry(text: str, now: float, there_ms: float) -> Entry:
    tag, _, instant = text.rpartition(":")
    return Entry(tag, now + (int(instant) - there_ms) / 1000)


def _read_all(client: Redis) -> Any:  # noqa: ANN401  # a pipeline's answers are untyped
    with client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.hgetall(ENTRIES)
        pipeline.hgetall(COUNTS)
        return pipeline.execute()


def _forget(client: Redis, name: str, *keys: str) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hdel(key, name)
        pipeline.execute()
