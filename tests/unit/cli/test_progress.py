"""What a watcher of a task is shown."""

import io
from typing import Any

import pytest
from rich.console import Console

from mesh.cli.progress import Board, Progress, State, printable


def plan(*agents: str) -> dict[str, Any]:
    steps = [{"step_id": f"s{n}", "agent": agent, "description": f"Part {n}"} for n, agent in enumerate(agents)]
    return {"event": "plan", "iteration": 1, "steps": steps}


def started(step_id: str = "s0", *, attempt: int = 1) -> dict[str, Any]:
    return {"event": "step_started", "step_id": step_id, "agent": "Writer", "model": "claude", "attempt": attempt}


def completed(step_id: str = "s0", *, model: str = "claude", cost: float = 0.01) -> dict[str, Any]:
    event = {"event": "step_completed", "step_id": step_id, "agent": "Writer", "model": model}
    return event | {"cost_usd": cost, "duration_seconds": 2.0}


def failed(*, will_retry: bool) -> dict[str, Any]:
    event = {"event": "step_failed", "step_id": "s0", "agent": "Writer", "code": "timeout", "detail": "Too slow."}
    return event | {"will_retry": will_retry}


FALLBACK = {"event": "fallback", "step_id": "s0", "from_model": "claude", "to_model": "gpt", "reason": "overloaded"}
COMPLETE = {"event": "complete", "status": "completed"}


def board(*events: dict[str, Any]) -> Board:
    made = Board(clock=lambda: 0.0)
    for event in events:
        made.take(event)
    return made


def shown(*events: dict[str, Any], terminal: bool, width: int = 80, height: int = 25) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, height=height, highlight=False, _environ={})
    with Progress(console, clock=lambda: 0.0) as progress:
        for event in events:
            progress.take(event)
    return out.getvalue()


def test_a_step_goes_from_waiting_over_running_to_done() -> None:
    events = [plan("Writer"), started(), completed()]
    states = [board(*events[:count]).steps["s0"].state for count in (1, 2, 3)]
    assert states == [State.WAITING, State.RUNNING, State.DONE]


def test_the_cost_is_that_of_all_steps_that_are_done() -> None:
    assert board(plan("A", "B"), completed("s0", cost=0.25), completed("s1", cost=0.5)).cost_usd == 0.75


def test_a_coordinators_step_is_shown_although_no_plan_names_it() -> None:
    assert [step.agent for step in board(started("decision")).steps.values()] == ["Writer"]


def test_a_fallback_names_both_models_and_the_reason() -> None:
    made = board(plan("Writer"), started())
    line = made.take(FALLBACK)
    assert line is not None
    assert line.notable
    assert "Writer" in line.text
    assert all(word in line.text for word in ("claude", "gpt", "overloaded"))
    assert made.steps["s0"].model == "gpt"


@pytest.mark.parametrize(("will_retry", "state"), [(True, State.WAITING), (False, State.FAILED)])
def test_a_failure_says_whether_it_is_tried_again(will_retry: bool, state: State) -> None:
    made = board(plan("Writer"), started())
    line = made.take(failed(will_retry=will_retry))
    assert line is not None
    assert "Too slow." in line.text
    assert ("tried again" in line.text) is will_retry
    assert made.steps["s0"].state is state


def test_another_attempt_is_counted() -> None:
    line = board(plan("Writer")).take(started(attempt=2))
    assert line is not None
    assert "attempt 2" in line.text


def test_what_was_open_at_the_end_is_stopped() -> None:
    made = board(plan("A", "B"), started("s0"), {"event": "complete", "status": "cancelled"})
    assert {step.state for step in made.steps.values()} == {State.STOPPED}


def test_events_that_are_not_known_yet_are_passed_over() -> None:
    assert board().take({"event": "brand_new", "sequence": 1}) is None


def test_without_a_terminal_every_event_is_a_plain_line() -> None:
    text = shown(plan("Writer"), started(), FALLBACK, completed(model="gpt"), COMPLETE, terminal=False)
    assert "\x1b" not in text
    lines = [line.split("s  ", 1)[1] for line in text.splitlines()]
    assert lines == [
        "plan 1: Writer",
        "Writer: asks claude",
        "Writer: claude failed (overloaded), asks gpt",
        "Writer: done (gpt, 2.0 s, $0.0100)",
        "completed",
    ]


def test_a_dumb_terminal_gets_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True), clock=lambda: 0.0) as progress:
        progress.take(started())
    assert out.getvalue().splitlines() == ["   0.0 s  Writer: asks claude"]


def test_a_terminal_gets_a_table_with_model_time_and_cost() -> None:
    lines = shown(plan("Writer"), started(), completed(model="gpt"), COMPLETE, terminal=True).splitlines()
    row = [line for line in lines if "Writer" in line][-1]
    assert all(part in row for part in ("✓", "gpt", "2.0 s", "$0.0100"))
    assert "1 of 1 steps" in lines[lines.index(row) + 1]


def test_a_wide_terminal_has_room_for_what_each_step_is_about() -> None:
    assert "Part 0" not in shown(plan("Writer"), terminal=True, width=80)
    assert "Part 0" in shown(plan("Writer"), terminal=True, width=120)


def test_all_steps_are_there_at_the_end_however_low_the_terminal_is() -> None:
    text = shown(plan(*(f"Agent{n:02}" for n in range(40))), COMPLETE, terminal=True, height=10)
    assert all(f"Agent{n:02}" in text for n in range(40))


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_that_models_write_commands_the_terminal(terminal: bool) -> None:
    evil = "[red]Writer[/red]\x1b]0;owned\x07\x9b2J"
    text = shown(
        plan(evil), FALLBACK | {"reason": evil}, failed(will_retry=False) | {"detail": evil}, terminal=terminal
    )
    assert "\x1b]0" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "[red]Writer[/red]" in text


def test_printable_text_keeps_its_lines_and_letters() -> None:
    assert printable("a\tb\nç 漢 🙂\r\x00\x1b[1m\x85") == "a\tb\nç 漢 🙂[1m"
