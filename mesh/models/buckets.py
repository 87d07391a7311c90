"""Token buckets and slots: what one call takes of them, and one process's own ones for when Redis is away.

limits -> here.  The shared ones work alike, in limits_take.lua and limits_give_back.lua.  A bucket is one number: the
instant at which it will be full again (the "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371),
so what is taken is a time as well: how long that much needs to grow again.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

# How long an empty bucket needs to be full: in any minute, a sixth more than the limit gets through at most.
BURST_SECONDS = 10.0
# A slot gets free when a call ends, which nobody can tell beforehand.
SLOT_WAIT_SECONDS = 0.5
# Less is rounding, and no reason to ask again.
LEAST_WAIT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a call takes of one bucket: `taken` of `whole`, in seconds; a token weighs `token_seconds`."""

    key: str
    taken: float
    whole: float
    token_seconds: float


@dataclass(frozen=True, slots=True)
class Slots:
    """A set of running calls, which may hold `calls` of them."""

    key: str
    calls: int


@dataclass(frozen=True, slots=True)
class Demand:
    """All that a call takes, together or not at all; its slots come back after `lease_seconds` whatever happens."""

    call_id: str
    tokens: int
    lease_seconds: float
    buckets: tuple[Bucket, ...]
    slots: tuple[Slots, ...]

    def corrections(self, tokens_used: int, *, sent: bool) -> list[tuple[str, float]]:
        """The buckets of which too much or too little was taken, and how much later each is full; below 0: sooner.

        Tokens were only estimated; a request comes back if none was `sent`.
        """
        wrong = tokens_used - self.tokens
        unsent = 0 if sent else 1
        later = [
            (one.key, wrong * one.token_seconds if one.token_seconds else -unsent * one.taken) for one in self.buckets
        ]
        return [(key, seconds) for key, seconds in later if seconds]


def request_bucket(key: str, per_minute: float) -> Bucket:
    """One request of a bucket of requests, which always holds one at least."""
    seconds = 60 / per_minute
    return Bucket(key, seconds, max(BURST_SECONDS, seconds), 0)


def token_bucket(key: str, per_minute: float, tokens: int) -> Bucket:
    """`tokens` of a bucket of tokens."""
    return Bucket(key, tokens * 60 / per_minute, BURST_SECONDS, 60 / per_minute)


class LocalBuckets:
    """This process's own buckets and slots."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        self._running: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def take(self, demand: Demand) -> float:
        """Take all of it, or nothing; returns 0, or the seconds until it can succeed."""
        with self._lock:
            now = self._monotonic()
            due = {one.key: max(self._full_at.get(one.key, now), now) for one in demand.buckets}
            # What is more than the whole bucket is let through by a full one, which then owes.
            waits = [due[one.key] - now - (one.whole - min(one.taken, one.whole)) for one in demand.buckets]
            waits += [SLOT_WAIT_SECONDS for one in demand.slots if self._held(one.key, now) >= one.calls]
            if (wait := max(waits, default=0.0)) >= LEAST_WAIT_SECONDS:
                return wait
            self._full_at |= {one.key: due[one.key] + one.taken for one in demand.buckets}
            for slots in demand.slots:
                self._running[slots.key][demand.call_id] = now + demand.lease_seconds
            return 0.0

    def give_back(self, demand: Demand, tokens_used: int, *, sent: bool = True) -> None:
        """Correct what was taken, and free the slots."""
        with self._lock:
            now = self._monotonic()
            for key, later in demand.corrections(tokens_used, sent=sent):
                self._full_at[key] = max(self._full_at.get(key, now), now) + later
            for slots in demand.slots:
                self._running[slots.key].pop(demand.call_id, None)

    def _held(self, key: str, now: float) -> int:
        self._running[key] = {call: until for call, until in self._running[key].items() if until > now}
        return len(self._running[key])
