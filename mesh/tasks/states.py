"""The state machines of tasks and steps, as data: which moves are allowed, and nothing else."""

from collections.abc import Mapping
from enum import StrEnum

from mesh.errors import ConflictError


class TaskStatus(StrEnum):
    """`pending` is held (`auto_process: false`); from `processing` on the mesh works on it."""

    PENDING = "pending"
    PROCESSING = "processing"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    """A decision is the coordinator's; every other agent does agent steps."""

    DECISION = "decision"
    AGENT = "agent"


class StepState(StrEnum):
    """`ready` can be claimed (or waits for `not_before`); `running` belongs to one attempt of one worker."""

    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


TASK_MOVES: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.PENDING: frozenset({TaskStatus.PROCESSING, TaskStatus.FAILED, TaskStatus.CANCELLED}),
    TaskStatus.PROCESSING: frozenset(
        {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PAUSED}
    ),
    # What ran when it was paused goes on, and a decision among it may conclude.
    TaskStatus.PAUSED: frozenset(
        {TaskStatus.PROCESSING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    TaskStatus.COMPLETED: frozenset(),
    # Resuming goes on from the last step that succeeded.
    TaskStatus.FAILED: frozenset({TaskStatus.PROCESSING}),
    TaskStatus.CANCELLED: frozenset({TaskStatus.PROCESSING}),
}

STEP_MOVES: Mapping[StepState, frozenset[StepState]] = {
    StepState.BLOCKED: frozenset({StepState.READY, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.READY: frozenset({StepState.RUNNING, StepState.BLOCKED, StepState.CANCELLED}),
    StepState.RUNNING: frozenset(
        {StepState.SUCCEEDED, StepState.FAILED, StepState.READY, StepState.BLOCKED, StepState.CANCELLED}
    ),
    StepState.SUCCEEDED: frozenset(),
    StepState.FAILED: frozenset(),
    StepState.CANCELLED: frozenset(),
    StepState.SKIPPED: frozenset(),
}

# Within a run nothing that has ended moves.  Resuming a task blocks what came to nothing, to be tried again.
REOPENED_STEPS = frozenset({StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED})

OPEN_STEPS = frozenset(state for state, moves in STEP_MOVES.items() if moves)
ENDED_TASKS = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


def check_task_move(present: TaskStatus, wanted: TaskStatus) -> None:
    """Raises ConflictError unless a task may go from `present` to `wanted`."""
    if wanted not in TASK_MOVES[present]:
        raise ConflictError(f"The task is {present}; it cannot become {wanted}.")
