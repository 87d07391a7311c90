"""What is asked of a direct generation, and the job that is made of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

# What a worker sends while it has nothing to tell; callers are not sent it.
ALIVE = "alive"
# What ends a generation.
ENDS = frozenset({"complete", "error"})

DEFAULT_MAX_TOKENS = 4_000

# The whole of a generation, over all models that it tries.
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What a caller wants.

    `model_selection` is as for a task, and `model` goes before the one in it; `network_id` is whom it is for, in
    budgets and statistics.
    """

    prompt: str
    system: str | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    model: str | None = None
    model_selection: Mapping[str, Any] = field(default_factory=dict)
    network_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A generation on its way to a worker; it goes through the broker as plain JSON."""

    generation_id: str
    user_id: str
    key_id: str | None
    asked: NewGeneration

    def to_json(self) -> dict[str, Any]:
        """For the broker."""
        return asdict(self)

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        """What `to_json` was called on."""
        return cls(**{**payload, "asked": NewGeneration(**payload["asked"])})
