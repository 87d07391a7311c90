"""Memory: what may be asked and what is answered."""

from typing import Annotated, Any, Literal, cast

from pydantic import AliasChoices, Field, StringConstraints

from api.schemas.base import ABSENT, Answer, Asked, Instant, JsonObject, Paging, Share, TaskId
from mesh.memory.views import MemoryChanges, NewMemory

MemoryType = Literal["fact", "context", "decision", "feedback"]
Content = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=r"\S")]
Ttl = Annotated[int, Field(ge=1, le=315_360_000, description="at most ten years")]
_TYPE = AliasChoices("type", "memory_type")


class AddMemory(Asked):
    """POST .../memory."""

    content: Content
    type: MemoryType = Field("fact", validation_alias=_TYPE)
    confidence: Share = 1.0
    metadata: JsonObject = Field(default_factory=dict)
    pinned: bool = False
    ttl_seconds: Ttl | None = None

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


class ChangeMemory(Asked):
    """PATCH .../memory/{memory_id}: what is left out stays, `metadata` is replaced as a whole."""

    content: Content = ABSENT
    type: Annotated[MemoryType, Field(validation_alias=_TYPE)] = ABSENT
    confidence: Share = ABSENT
    metadata: JsonObject = ABSENT
    pinned: bool = ABSENT
    ttl_seconds: Ttl | None = Field(default_factory=lambda: None, description="from now; null: never expires")

    def to_domain(self) -> MemoryChanges:
        """The same for the service."""
        return cast(MemoryChanges, self.model_dump(exclude_unset=True))


class ListMemory(Paging):
    """GET .../memory."""

    type: MemoryType | None = None
    query: Annotated[str, StringConstraints(max_length=1_000, pattern=r"\S")] | None = None
    min_confidence: Share | None = None
    task_id: TaskId | None = None


class SaidAgain(Answer):
    """An agent that wrote what was there already, and when; `memory_id`, if that was an item for a while."""

    agent_id: str | None
    task_id: str | None
    at: str
    memory_id: str | None = None


class Source(Answer):
    """Who wrote an item; what others wrote later and says the same is noted here, and no item of its own."""

    kind: Literal["user", "agent"]
    agent_id: str | None
    task_id: str | None
    said_again: list[SaidAgain]


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
