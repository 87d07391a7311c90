"""Identifiers: `<kind>_<ULID in lower case>`, sortable by the time they were made."""

import os
import random
from datetime import datetime
from threading import Lock
from typing import Literal

from ulid import ULID, StrictMonotonicPolicy, ULIDGenerator

Kind = Literal["network", "agent", "task", "step", "memory", "key", "event", "call", "worker", "generation"]


# A ULID has 48 bits of time.
LATEST_MILLISECONDS = 2**48 - 1

# Identifiers are no secrets.  The system's randomness, which ULIDs take by default, lets go of the interpreter's lock:
# a busy process waits 0.2 ms for each.
_GENERATOR = ULIDGenerator(randomness=lambda _milliseconds: random.randbytes(10))  # noqa: S311  # see above


def _start_anew() -> None:
    """A forked process neither counts on from its parent's last one, nor waits for a lock that nobody gives back."""
    _GENERATOR.lock, _GENERATOR.policy = Lock(), StrictMonotonicPolicy()


os.register_at_fork(after_in_child=_start_anew)


def new_id(kind: Kind) -> str:
    """A fresh identifier; unique without coordination: in each millisecond a process counts up from 80 random bits."""
    return f"{kind}_{str(_GENERATOR.generate()).lower()}"


def first_id(kind: Kind, at: datetime, *, plus_seconds: int = 0) -> str:
    """The least identifier that can be made so long after `at`; for finding what was made since."""
    milliseconds = int(at.timestamp() + plus_seconds) * 1000
    in_range = min(max(0, milliseconds), LATEST_MILLISECONDS)
    return f"{kind}_{str(ULID(in_range.to_bytes(6) + bytes(10))).lower()}"
