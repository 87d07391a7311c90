"""Events of streams, as they are documented: the `data` of a server-sent event; a line of NDJSON has `event` as well.

What is sent is made in mesh.events.types, mesh.events.texts and mesh.generate; a test holds these models against it.
"""

from typing import ClassVar, Literal

from pydantic import Field

from api.schemas.base import Answer, Instant
from api.schemas.tasks import Result, Status


class Event(Answer):
    """Base; `event` is its name on the wire."""

    event: ClassVar[str]


class Live(Event):
    """What every event of a task has; `agent`, where it occurs, is the agent's name."""

    task_id: str
    network_id: str
    timestamp: Instant


class Stored(Live):
    """An event that can be sent again for as long as the task exists."""

    sequence: int = Field(ge=1, description="1, 2, 3 ... within the task; also the id of the server-sent event")


class OfStep(Event):
    """Which step, and whose it is."""

    step_id: str
    agent: str
    agent_id: str


class Started(Stored):
    """A run of the task begins; `run` is one more each time the task is resumed."""

    event = "started"
    status: Status
    run: int = Field(ge=1)


class PlannedStep(Answer):
    """A step as the coordinator wants it; `depends_on` are keys of the same iteration."""

    step_id: str
    key: str
    agent: str
    agent_id: str
    description: str
    depends_on: list[str]


class Plan(Stored):
    """The coordinator's decision of this iteration."""

    event = "plan"
    iteration: int
    steps: list[PlannedStep]


class StepStarted(Stored, OfStep):
    """A model is about to be asked."""

    event = "step_started"
    model: str
    attempt: int


class Fallback(Stored):
    """A model failed and the next one is asked; `restarted`: the step's text so far is void."""

    event = "fallback"
    step_id: str
    from_model: str
    to_model: str
    reason: str
    restarted: bool


class StepCompleted(Stored, OfStep):
    """A step's reply is stored; cost in US dollars."""

    event = "step_completed"
    model: str
    output: str
    confidence: float
    usage: dict[str, int]
    cost_usd: float
    duration_seconds: float


class StepFailed(Stored, OfStep):
    """An attempt at a step failed."""

    event = "step_failed"
    code: str
    detail: str
    will_retry: bool


class MemoryAdded(Stored):
    """An agent wrote to the shared memory."""

    event = "memory"
    memory_id: str
    type: str
    content: str
    confidence: float
    agent: str
    agent_id: str


class Paused(Stored):
    """A budget is used up."""

    event = "paused"
    reason: str


class Resulted(Stored):
    """The task's result."""

    event = "result"
    result: Result


class Failed(Stored):
    """Why the task failed."""

    event = "error"
    code: str
    detail: str


class Complete(Stored):
    """The end of a run, always its last event."""

    event = "complete"
    status: Status


class Unstored(Live):
    """An event that is not sent again."""

    sequence: int = Field(description="of the event that began this text: its `step_started`, or `fallback`")
    step_id: str


class Token(Unstored):
    """More text of a running step, after `offset` characters of it."""

    event = "token"
    offset: int = Field(description="in Unicode code points: `[...text].length` in JavaScript")
    text: str


class Partial(Unstored):
    """The text of a running step so far, for whoever comes late."""

    event = "partial"
    text: str


STORED: tuple[type[Event], ...] = (
    Started,
    Plan,
    StepStarted,
    Fallback,
    StepCompleted,
    StepFailed,
    MemoryAdded,
    Paused,
    Resulted,
    Failed,
    Complete,
)
ALL: tuple[type[Event], ...] = (*STORED, Token, Partial)


class GenerationStart(Event):
    """A model is asked; `sandbox` stands there when it is none, but the stand-in for trying out."""

    event = "start"
    model: str
    sandbox: bool = False


class GenerationToken(Event):
    """More text."""

    event = "token"
    text: str


class GenerationFallback(Event):
    """Another model goes on; `restarted`: the text so far is void."""

    event = "fallback"
    from_model: str
    to_model: str
    reason: str
    restarted: bool


class GenerationComplete(Event):
    """The end of the text; cost in US dollars, null for a model without a known price."""

    event = "complete"
    model: str
    finish_reason: Literal["stop", "length"]
    usage: dict[str, int]
    cost_usd: float | None


class GenerationError(Event):
    """Why there is no more text; what was used until then is charged."""

    event = "error"
    code: str
    detail: str


OF_GENERATION: tuple[type[Event], ...] = (
    GenerationStart,
    GenerationToken,
    GenerationFallback,
    GenerationComplete,
    GenerationError,
)
