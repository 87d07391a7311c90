"""Memory: what may be asked and what is answered."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, StringConstraints

from api.schemas.base import Answer, Asked, Instant, JsonObject, Paging, Share, TaskId
from mesh.memory.service import NewMemory

MemoryType = Literal["fact", "context", "decision", "feedback"]


class AddMemory(Asked):
    """POST .../memory."""

    content: Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=r"\S")]
    type: MemoryType = Field("fact", validation_alias=AliasChoices("type", "memory_type"))
    confidence: Share = 1.0
    metadata: JsonObject = Field(default_factory=dict)
    pinned: bool = False
    ttl_seconds: int | None = Field(None, ge=1, le=315_360_000, description="at most ten years")

    def to_domain(self) -> NewMemory:
        """The same for the service."""
        return NewMemory(
            content=self.content,
            type=self.type,
            confidence=self.confidence,
            metadata=self.metadata,
            pinned=self.pinned,
            ttl_seconds=self.ttl_seconds,
        )


class ListMemory(Paging):
    """GET .../memory."""

    type: MemoryType | None = None
    query: Annotated[str, StringConstraints(max_length=1_000, pattern=r"\S")] | None = None
    min_confidence: Share | None = None
    task_id: TaskId | None = None


class Source(Answer):
    """Who wrote an item."""

    kind: Literal["user", "agent"]
    agent_id: str | None
    task_id: str | None


class MemoryItem(Answer):
    """A remembered item."""

    memory_id: str
    network_id: str
    content: str
    type: MemoryType
    confidence: float
    metadata: dict[str, Any]
    pinned: bool
    expires_at: Instant | None
    source: Source
    created_at: Instant
    updated_at: Instant
    version: int
