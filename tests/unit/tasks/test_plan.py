"""Plans: only graphs become steps, and every graph comes to an end, whatever fails."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.agents.schemas import Subtask
from mesh.errors import InvalidReplyError
from mesh.tasks.plan import Advance, PlannedStep, RoundStep, advance, plan
from mesh.tasks.states import OPEN_STEPS, STEP_MOVES, StepState


def subtask(key: str, *depends_on: str) -> Subtask:
    return Subtask(key=key, agent="Content Specialist", description=f"Do {key}", depends_on=list(depends_on))


def step(key: str, state: StepState, *depends_on: str) -> RoundStep:
    return RoundStep(f"step_{key}", key, state, depends_on)


@st.composite
def acyclic(draw: st.DrawFn) -> list[Subtask]:
    """Up to 20 subtasks in any order, each depending on any of those before it in some order."""
    keys = [str(number) for number in range(draw(st.integers(1, 20)))]
    made = [
        subtask(key, *draw(st.lists(st.sampled_from(keys[:index]), max_size=4) if index else st.just([])))
        for index, key in enumerate(keys)
    ]
    return draw(st.permutations(made))


def test_a_plan_becomes_steps_in_its_order() -> None:
    steps = plan([subtask("layout", "copy", "copy"), subtask("copy")])
    assert steps == [
        PlannedStep("layout", "Content Specialist", "Do layout", ("copy",)),
        PlannedStep("copy", "Content Specialist", "Do copy", ()),
    ]
    assert [made.state for made in steps] == [StepState.BLOCKED, StepState.READY]


@pytest.mark.parametrize(
    ("subtasks", "errors"),
    [
        (
            [subtask("a"), subtask("b"), subtask("a")],
            ["subtasks: key must be unique, but is shared among subtasks 0, 2"],
        ),
        ([subtask("a", "b")], ["subtasks[0].depends_on[0]: no subtask of this reply has that key"]),
        ([subtask("b"), subtask("a", "b", "a")], ["subtasks[1].depends_on[1]: a subtask cannot depend on itself"]),
        (
            [subtask("a", "b"), subtask("b", "c"), subtask("c", "a")],
            ["subtasks: dependencies must not be circular: subtasks[0] -> subtasks[1] -> subtasks[2] -> subtasks[0]"],
        ),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(subtasks: list[Subtask], errors: list[str]) -> None:
    with pytest.raises(InvalidReplyError) as refused:
        plan(subtasks)
    assert list(refused.value.errors) == errors


@given(acyclic(), st.data())
def test_closing_a_circle_is_always_noticed(subtasks: list[Subtask], data: st.DataObject) -> None:
    dependent = [made for made in subtasks if made.depends_on]
    if not dependent:
        return
    made = data.draw(st.sampled_from(dependent))
    other = next(each for each in subtasks if each.key == made.depends_on[0])
    closed = other.model_copy(update={"depends_on": [*other.depends_on, made.key]})
    with pytest.raises(InvalidReplyError, match="circular"):
        plan([closed if each is other else each for each in subtasks])


@given(acyclic(), st.data())
def test_every_plan_ends_whatever_fails(subtasks: list[Subtask], data: st.DataObject) -> None:
    """No step becomes ready before its dependencies succeeded, none twice, and none is left behind."""
    steps = {made.key: RoundStep(f"step_{made.key}", made.key, made.state, made.depends_on) for made in plan(subtasks)}
    for _ in range(len(steps) + 1):
        follows = advance(list(steps.values()))
        for made in list(steps.values()):
            if made.id in follows.ready:
                assert {steps[key].state for key in made.depends_on} == {StepState.SUCCEEDED}
                steps[made.key] = replace(made, state=StepState.READY)
        for made in list(steps.values()):
            if made.id in follows.skipped:
                steps[made.key] = replace(made, state=StepState.SKIPPED)
        waiting = sorted(made.key for made in steps.values() if made.state in OPEN_STEPS - {StepState.BLOCKED})
        assert follows.done == (not waiting)
        if follows.done:
            break
        key = data.draw(st.sampled_from(waiting))
        ended = data.draw(st.sampled_from([StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED]))
        steps[key] = replace(steps[key], state=ended)
    assert not {made.state for made in steps.values()} & OPEN_STEPS
    for made in steps.values():
        fruitless = any(steps[key].state != StepState.SUCCEEDED for key in made.depends_on)
        assert (made.state == StepState.SKIPPED) == fruitless


@given(acyclic(), st.data())
def test_asking_again_changes_nothing(subtasks: list[Subtask], data: st.DataObject) -> None:
    """Two finishing steps may both ask."""
    round_ = [step(s.key, data.draw(st.sampled_from(list(StepState))), *s.depends_on) for s in subtasks]
    first = advance(round_)
    new = dict.fromkeys(first.ready, StepState.READY) | dict.fromkeys(first.skipped, StepState.SKIPPED)
    applied = [replace(made, state=new.get(made.id, made.state)) for made in round_]
    assert advance(applied) == Advance([], [], first.done)


@given(acyclic(), st.data())
def test_only_allowed_moves_are_asked_for(subtasks: list[Subtask], data: st.DataObject) -> None:
    round_ = [step(s.key, data.draw(st.sampled_from(list(StepState))), *s.depends_on) for s in subtasks]
    follows = advance(round_)
    states = {made.id: made.state for made in round_}
    assert all(StepState.READY in STEP_MOVES[states[made]] for made in follows.ready)
    assert all(StepState.SKIPPED in STEP_MOVES[states[made]] for made in follows.skipped)


def test_failure_reaches_far_while_others_still_run() -> None:
    follows = advance(
        [
            step("d", StepState.BLOCKED, "c"),
            step("c", StepState.BLOCKED, "a", "b"),
            step("a", StepState.FAILED),
            step("b", StepState.RUNNING),
            step("e", StepState.BLOCKED, "b"),
        ]
    )
    assert follows == Advance(ready=[], skipped=["step_d", "step_c"], done=False)


def test_a_step_outside_the_round_is_a_fault_of_the_caller() -> None:
    with pytest.raises(KeyError):
        advance([step("a", StepState.BLOCKED, "gone")])


def test_states_read_from_a_query_count_as_states() -> None:
    """A row gives plain text."""
    follows = advance([replace(step("a", StepState.BLOCKED), state="blocked")])  # type: ignore[arg-type]  # as stored: text
    assert follows.ready == ["step_a"]
