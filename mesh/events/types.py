"""Every kind of stored event, one class each; the field names are the contract's (section 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base: `type` is the name on the wire; the fields are what stands beside ids, number and time."""

    type: ClassVar[str]

    def fields(self) -> dict[str, Any]:
        """The event's own fields, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A run of the task begins; `run` is 1, and one more each time it is resumed."""

    type = "started"
    status: str
    run: int


@dataclass(frozen=True, slots=True)
class Plan(Event):
    """The coordinator's decision of this iteration, as steps."""

    type = "plan"
    iteration: int
    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """A model is about to be asked for this step."""

    type = "step_started"
    step_id: str
    agent: str
    agent_id: str
    model: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Fallback(Event):
    """A model failed, the next one is asked; `restarted`: text streamed so far is void."""

    type = "fallback"
    step_id: str
    from_model: str
    to_model: str
    reason: str
    restarted: bool


@dataclass(frozen=True, slots=True)
class StepCompleted(Event):
    """A step's reply is stored."""

    type = "step_completed"
    step_id: str
    agent: str
    agent_id: str
    model: str
    output: str
    confidence: float
    usage: Mapping[str, int]
    cost_usd: float
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class StepFailed(Event):
    """An attempt at a step failed; `will_retry` says whether another one follows."""

    type = "step_failed"
    step_id: str
    agent: str
    agent_id: str
    code: str
    detail: str
    will_retry: bool


@dataclass(frozen=True, slots=True)
class MemoryAdded(Event):
    """An agent wrote to the shared memory."""

    type = "memory"
    memory_id: str
    # `type` on the wire; a field of that name would hide the event's own.
    memory_type: str
    content: str
    confidence: float
    agent: str
    agent_id: str

    def fields(self) -> dict[str, Any]:
        """The wire calls the memory's type `type`."""
        plain = Event.fields(self)
        plain["type"] = plain.pop("memory_type")
        return plain


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """A budget is used up; the task goes on when there is room in it, or when it is told to."""

    type = "paused"
    reason: str


@dataclass(frozen=True, slots=True)
class Result(Event):
    """The task's result: `content, explanation, confidence`."""

    type = "result"
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Why the task failed; only then."""

    type = "error"
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Complete(Event):
    """The end of a run, always its last event."""

    type = "complete"
    status: str
