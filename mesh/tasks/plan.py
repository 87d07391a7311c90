"""Plans, without I/O: a decision's subtasks into steps, and what a round's steps may do next.

tasks.orchestrator -> here.  A round is the steps of one decision; keys are unique in it, and dependencies stay in it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from mesh.agents.schemas import Subtask
from mesh.errors import InvalidReplyError
from mesh.tasks.states import OPEN_STEPS, StepState

_FRUITLESS = frozenset({StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED})


@dataclass(frozen=True)
class PlannedStep:
    """One step to be stored; `depends_on` are keys of the same plan, and without any the step starts ready."""

    key: str
    agent: str
    description: str
    depends_on: tuple[str, ...]

    @property
    def state(self) -> StepState:
        """The step's first state: `ready`, or `blocked` by its dependencies."""
        return StepState.BLOCKED if self.depends_on else StepState.READY


@dataclass(frozen=True)
class RoundStep:
    """A stored step of a round: its present `state`, and the keys it depends on."""

    id: str
    key: str
    state: StepState
    depends_on: tuple[str, ...]


@dataclass(frozen=True)
class Advance:
    """Ids of blocked steps that are to become ready or skipped, and whether the whole round has then ended."""

    ready: list[str]
    skipped: list[str]
    done: bool


def plan(subtasks: Sequence[Subtask]) -> list[PlannedStep]:
    """The steps of a decision, in its order; `schemas.parse_decision` has checked that their agents exist.

    Raises:
        InvalidReplyError: duplicate keys, or dependencies that are unknown, on the step itself, or circular.
    """
    errors = [*_duplicate_errors(subtasks), *_dependency_errors(subtasks)] or _cycle_errors(subtasks)
    if errors:
        raise InvalidReplyError(errors)
    return [PlannedStep(s.key, s.agent, s.description, tuple(dict.fromkeys(s.depends_on))) for s in subtasks]


def advance(steps: Sequence[RoundStep]) -> Advance:
    """What follows from the states of a round's steps; applying the answer and asking again changes nothing.

    A blocked step becomes ready when all it depends on succeeded, and is skipped once any of it failed, was cancelled
    or was skipped, however far away.

    Raises:
        KeyError: a dependency is not among `steps`, which must be the whole round.
    """
    by_key = {step.key: step for step in steps}
    states: dict[str, StepState] = {}
    for key in TopologicalSorter({step.key: step.depends_on for step in steps}).static_order():
        states[key] = _next_state(by_key[key], [states[dependency] for dependency in by_key[key].depends_on])
    blocked = [step for step in steps if step.state == StepState.BLOCKED]
    return Advance(
        ready=[step.id for step in blocked if states[step.key] == StepState.READY],
        skipped=[step.id for step in blocked if states[step.key] == StepState.SKIPPED],
        done=OPEN_STEPS.isdisjoint(states.values()),
    )


def _next_state(step: RoundStep, dependencies: Sequence[StepState]) -> StepState:
    if step.state != StepState.BLOCKED:
        return step.state
    if not _FRUITLESS.isdisjoint(dependencies):
        return StepState.SKIPPED
    return StepState.READY if all(state == StepState.SUCCEEDED for state in dependencies) else StepState.BLOCKED


def _duplicate_errors(subtasks: Sequence[Subtask]) -> Iterable[str]:
    counts = Counter(subtask.key for subtask in subtasks)
    duplicates = [str(index) for index, subtask in enumerate(subtasks) if counts[subtask.key] > 1]
    return [f"subtasks: key must be unique, but is shared among subtasks {', '.join(duplicates)}"] if duplicates else []


def _dependency_errors(subtasks: Sequence[Subtask]) -> Iterable[str]:
    keys = {subtask.key for subtask in subtasks}
    for index, subtask in enumerate(subtasks):
        for position, dependency in enumerate(subtask.depends_on):
            place = f"subtasks[{index}].depends_on[{position}]"
            if dependency == subtask.key:
                yield f"{place}: a subtask cannot depend on itself"
            elif dependency not in keys:
                yield f"{place}: no subtask of this reply has that key"


def _cycle_errors(subtasks: Sequence[Subtask]) -> list[str]:
    try:
        TopologicalSorter({subtask.key: subtask.depends_on for subtask in subtasks}).prepare()
    except CycleError as error:
        indexes = {subtask.key: index for index, subtask in enumerate(subtasks)}
        path = " -> ".join(f"subtasks[{indexes[key]}]" for key in reversed(error.args[1]))
        return [f"subtasks: dependencies must not be circular: {path}"]
    return []
