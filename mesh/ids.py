"""Identifiers: `<kind>_<ULID in lower case>`, sortable by the time they were made."""

from typing import Literal

from ulid import ULID

Kind = Literal["network", "agent", "task", "step", "memory", "key", "event", "call", "worker", "generation"]


def new_id(kind: Kind) -> str:
    """A fresh identifier; unique without coordination (80 random bits a millisecond)."""
    return f"{kind}_{str(ULID()).lower()}"
