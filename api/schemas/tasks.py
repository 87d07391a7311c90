"""Tasks and their steps: what may be asked and what is answered."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from api.schemas.base import (
    Answer,
    Asked,
    Budget,
    Decimals,
    GivenInstant,
    Instant,
    JsonObject,
    Paging,
    Parameters,
    Usd,
    UserId,
)
from api.schemas.networks import ModelSelection
from mesh.tasks.views import NewTask

Status = Literal["pending", "processing", "paused", "completed", "failed", "cancelled"]


class SubmitTask(Asked):
    """POST .../tasks."""

    task: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")]
    context: JsonObject = Field(default_factory=dict)
    priority: int = Field(1, ge=1, le=10, description="10 is most urgent")
    deadline: GivenInstant | None = None
    model_selection: ModelSelection = ModelSelection()
    budget_usd: Budget | None = None
    auto_process: bool = True
    on_behalf_of: UserId | None = None

    def to_domain(self) -> NewTask:
        """The same for the service."""
        return NewTask(
            task=self.task,
            context=self.context,
            priority=self.priority,
            deadline=self.deadline,
            model_selection=self.model_selection.given(),
            budget_usd=self.budget_usd,
            auto_process=self.auto_process,
            on_behalf_of=self.on_behalf_of,
        )


class ListTasks(Paging):
    """GET .../tasks."""

    status: Status | None = None
    created_from: GivenInstant | None = Field(None, alias="from")
    created_to: GivenInstant | None = Field(None, alias="to")


class GetTask(Parameters):
    """GET .../tasks/{task_id}."""

    wait: Decimals | None = Field(None, gt=0, le=30, description="seconds to wait for the task's end")


class Progress(Answer):
    """Steps so far; a task that goes on may get more."""

    steps_total: int
    steps_done: int


class Result(Answer):
    """What a task came to."""

    content: str
    explanation: str
    confidence: float


class Failure(Answer):
    """Why a task or a step failed."""

    code: str
    detail: str


class Spent(Answer):
    """Tokens and calls."""

    prompt_tokens: int
    completion_tokens: int
    calls: int


class Task(Answer):
    """A task; cost in US dollars."""

    task_id: str
    network_id: str
    owner: str
    status: Status
    task: str
    context: dict[str, Any]
    priority: int
    model_selection: dict[str, Any]
    deadline: Instant | None
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    iterations: int
    progress: Progress
    result: Result | None
    error: Failure | None
    usage: Spent
    cost_usd: Usd
    models: list[str]
    sandbox: bool


class Call(Answer):
    """One model call; `selection` says why this model: the candidates with their scores, and who could not be asked."""

    call_id: str
    model: str
    requested_model: str | None
    status: Literal["reserved", "settled", "failed", "cancelled"]
    error_code: str | None
    usage: Spent
    cost_usd: Usd
    estimated: bool = Field(description="the provider told no usage: the cost is an upper bound")
    latency_seconds: float | None
    created_at: Instant
    selection: dict[str, Any] | None


class Step(Answer):
    """A node of a task's graph; `depends_on` are keys of the same iteration."""

    step_id: str
    key: str
    kind: Literal["decision", "agent"]
    iteration: int
    agent: str
    agent_id: str
    agent_type: str
    description: str
    depends_on: list[str]
    status: str
    attempts: int
    model: str | None
    usage: Spent
    cost_usd: Usd
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    output: str | None
    confidence: float | None
    memories_used: list[str] = Field(description="ids of the memories that the agent says it built on")
    error: Failure | None
    calls: list[Call] = Field(description="every model call that was made for it, in their order")
