"""Items of the shared memory as callers, agents and the database's rows give and see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Row


@dataclass(frozen=True)
class NewMemory:
    """An item to be remembered; `ttl_seconds` from now it is forgotten."""

    content: str
    type: str = "fact"
    confidence: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    ttl_seconds: int | None = None


class MemoryChanges(TypedDict, total=False):
    """What of an item is to be changed; `ttl_seconds` counts from now, None: for ever."""

    content: str
    type: str
    confidence: float
    metadata: Mapping[str, Any]
    pinned: bool
    ttl_seconds: int | None


@dataclass(frozen=True)
class Source:
    """Who wrote an item: a user, or an agent in a task; `said_again` are those who wrote the same later."""

    kind: str
    agent_id: str | None = None
    task_id: str | None = None
    said_again: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class MemoryView:
    """A remembered item."""

    memory_id: str
    network_id: str
    content: str
    type: str
    confidence: float
    metadata: Mapping[str, Any]
    pinned: bool
    expires_at: datetime | None
    source: Source
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """What an agent is reminded of."""

    memory_id: str
    type: str
    content: str
    confidence: float


# Below this (cosine) two texts have nothing to do with each other, for the model that runs here: of 56 pairs without
# relation, one was above 0.31; of 8 paraphrases without a common word, none was below 0.58.
LEAST_SIMILARITY = 0.25


@dataclass(frozen=True, slots=True)
class Meaning:
    """A text as a vector of unit length; comparable to others of the same `model` only.

    What is less similar (cosine) than `least_similarity` is not meant.
    """

    model: str
    vector: Sequence[float]
    least_similarity: float = LEAST_SIMILARITY


@dataclass(frozen=True, slots=True)
class Filters:
    """Which items of a network a search is for; None: whatever."""

    type: str | None = None
    min_confidence: float | None = None
    task_id: str | None = None


def view_of(row: Row[Any]) -> MemoryView:
    """A whole row of `memories`."""
    return MemoryView(
        memory_id=row.id,
        network_id=row.network_id,
        content=row.content,
        type=row.type,
        confidence=row.confidence,
        metadata=row.metadata,
        pinned=row.pinned,
        expires_at=row.expires_at,
        source=Source(row.source_kind, row.agent_id, row.task_id, tuple(row.said_again)),
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )
