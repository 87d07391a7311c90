"""States: the tables of moves say everything, and the database's checks say the same."""

import re

import pytest
from sqlalchemy import CheckConstraint, Table

from mesh.db.tables import steps, tasks
from mesh.errors import ConflictError
from mesh.tasks.states import (
    ENDED_TASKS,
    OPEN_STEPS,
    REOPENED_STEPS,
    STEP_MOVES,
    TASK_MOVES,
    StepKind,
    StepState,
    TaskStatus,
    check_task_move,
)

FINISHED = [StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED]


def test_every_state_has_its_moves() -> None:
    assert set(TASK_MOVES) == set(TaskStatus)
    assert set(STEP_MOVES) == set(StepState)


def test_every_state_can_be_reached() -> None:
    assert set().union(*TASK_MOVES.values()) == set(TaskStatus) - {TaskStatus.PENDING}
    assert set().union(*STEP_MOVES.values()) == set(StepState)


@pytest.mark.parametrize("state", FINISHED)
def test_finished_steps_never_move(state: StepState) -> None:
    """Within a run: only resuming a task tries again what came to nothing."""
    assert not STEP_MOVES[state]
    assert state not in OPEN_STEPS
    assert (state in REOPENED_STEPS) == (state != StepState.SUCCEEDED)


def test_open_steps_can_always_be_cancelled() -> None:
    assert {state for state, moves in STEP_MOVES.items() if StepState.CANCELLED in moves} == OPEN_STEPS


def test_a_completed_task_stays_completed() -> None:
    assert not TASK_MOVES[TaskStatus.COMPLETED]


def test_every_task_that_has_not_ended_can_be_cancelled_and_can_run_out_of_time() -> None:
    for status in set(TaskStatus) - ENDED_TASKS:
        assert {TaskStatus.CANCELLED, TaskStatus.FAILED} <= TASK_MOVES[status]


@pytest.mark.parametrize("present", TaskStatus)
@pytest.mark.parametrize("wanted", TaskStatus)
def test_a_move_that_is_not_in_the_table_is_a_conflict(present: TaskStatus, wanted: TaskStatus) -> None:
    if wanted in TASK_MOVES[present]:
        check_task_move(present, wanted)
    else:
        with pytest.raises(ConflictError):
            check_task_move(present, wanted)


@pytest.mark.parametrize(
    ("table", "column", "enum"),
    [(tasks, "status", TaskStatus), (steps, "state", StepState), (steps, "kind", StepKind)],
)
def test_the_database_checks_the_same_states(
    table: Table, column: str, enum: type[TaskStatus | StepState | StepKind]
) -> None:
    checks = [str(c.sqltext) for c in table.constraints if isinstance(c, CheckConstraint)]
    (check,) = (check for check in checks if check.startswith(f"{column} IN"))
    assert set(re.findall(r"'(\w+)'", check)) == {member.value for member in enum}
