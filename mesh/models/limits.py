"""Rate limits: what may be asked of a provider and of a model, over all processes together.

gateway -> here -> shared.  Before a call `take` reserves a request, the estimated tokens and a slot of every limit that
applies, by one script in Redis, all or nothing; after it `give_back` corrects the tokens and frees the slots.
A model without limits costs no round trip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.models.board import Board
from mesh.models.buckets import SLOT_WAIT_SECONDS, Bucket, Demand, LocalBuckets, Slots, request_bucket, token_bucket
from mesh.models.catalogue import Limit, Model

PREFIX = "mesh:models:limit:"
REST = "rest:"

# What each process may take of a limit while Redis is away.  How many processes there are nobody knows then; up to four
# stay within the limit together, and more are told by the provider's 429.
LOCAL_SHARE = 1 / 4

_TAKE = Path(__file__).with_name("limits_take.lua").read_text("utf-8")
_GIVE_BACK = Path(__file__).with_name("limits_give_back.lua").read_text("utf-8")


class HasLimits(Protocol):
    """What is needed of the catalogue."""

    def limits_of(self, model: Model) -> tuple[Limit | None, Limit | None]:
        """The limits of the model's provider and of the model itself."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A call may be made; to be given back when it has ended.  `shared`: taken in Redis, not of this process's own."""

    demand: Demand
    shared: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """A call may not be made now, and cannot be before `seconds` have passed."""

    seconds: float


class Limits:
    """Token buckets, slots and rests.

    Buckets hold `buckets.BURST_SECONDS` worth of their limit, so that in any minute no more than the limit and that
    gets through.
    """

    def __init__(self, board: Board, catalogue: HasLimits) -> None:
        self._board = board
        self._catalogue = catalogue
        self._local = LocalBuckets(board.monotonic)

    def take(self, model: Model, *, call_id: str, tokens: int, lease_seconds: float = 600.0) -> Grant | Wait:
        """Reserve one call of `tokens`, estimated, or say when to try again.

        More tokens than a bucket holds are let through when it is full, else such a call could never be made.
        `lease_seconds` is more than the call can take: its slot comes back then if its process dies.
        """
        if (resting := self.resting(model.name)) > 0:
            return Wait(resting)
        demand = self._demand(model, call_id, tokens, lease_seconds, share=1)
        if not demand.buckets and not demand.slots:
            return Grant(demand, shared=True)
        wait_ms = self._take(demand)
        if wait_ms is not None:
            return Wait(wait_ms / 1000) if wait_ms else Grant(demand, shared=True)
        demand = self._demand(model, call_id, tokens, lease_seconds, share=LOCAL_SHARE)
        wait = self._local.take(demand)
        return Wait(wait) if wait else Grant(demand, shared=False)

    def give_back(self, grant: Grant, tokens_used: int, *, sent: bool = True) -> None:
        """The call has ended after `tokens_used`: more of them than reserved are charged now, the bucket may owe them.

        A request stays taken, unless none was `sent`.  If Redis is away by now, buckets fill up by themselves, and
        slots end with their lease.
        """
        demand = grant.demand
        if not grant.shared:
            self._local.give_back(demand, tokens_used, sent=sent)
            return
        corrections = demand.corrections(tokens_used, sent=sent)
        if corrections or demand.slots:
            keys = [*(key for key, _ in corrections), *(one.key for one in demand.slots)]
            args: list[float | str] = [len(corrections), demand.call_id]
            args += [later * 1000 for _, later in corrections]
            self._board.redis.ask(lambda client: client.register_script(_GIVE_BACK)(keys=keys, args=args))

    def rest(self, model: str, seconds: float) -> None:
        """Nobody asks `model` for `seconds`, as its provider wants it (`Retry-After`); never shortens a longer rest."""
        self._board.put(REST + model, "rest", seconds, rule="longer")

    def resting(self, model: str) -> float:
        """For how many seconds nobody may ask `model`; 0 when it does not rest."""
        return self._board.seconds_left(REST + model)

    def _take(self, demand: Demand) -> int | None:
        """0 when taken, else the milliseconds to wait; None while Redis is away."""
        keys = [*(one.key for one in demand.buckets), *(one.key for one in demand.slots)]
        args: list[float | str] = [len(demand.buckets), demand.call_id]
        args += [demand.lease_seconds * 1000, SLOT_WAIT_SECONDS * 1000]
        for bucket in demand.buckets:
            args += [bucket.taken * 1000, bucket.whole * 1000]
        args += [slots.calls for slots in demand.slots]
        taken: int | None = self._board.redis.ask(lambda client: client.register_script(_TAKE)(keys=keys, args=args))
        return taken

    def _demand(self, model: Model, call_id: str, tokens: int, lease_seconds: float, *, share: float) -> Demand:
        provider, own = self._catalogue.limits_of(model)
        scopes = [(f"{PREFIX}provider:{model.provider}", provider), (f"{PREFIX}model:{model.name}", own)]
        limits = [(key, limit) for key, limit in scopes if limit is not None]
        buckets = [bucket for key, limit in limits for bucket in _buckets(key, limit, tokens, share)]
        slots = [
            Slots(f"{key}:calls", max(1, int(limit.concurrency * share)))
            for key, limit in limits
            if limit.concurrency is not None
        ]
        return Demand(call_id, tokens, lease_seconds, tuple(buckets), tuple(slots))


def _buckets(key: str, limit: Limit, tokens: int, share: float) -> Iterator[Bucket]:
    if limit.requests_per_minute is not None:
        yield request_bucket(f"{key}:requests", limit.requests_per_minute * share)
    if limit.tokens_per_minute is not None:
        yield token_bucket(f"{key}:tokens", limit.tokens_per_minute * share, tokens)
