"""`mesh run`: what it refuses before it asks anybody, and how it tells of the end."""

import io
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from mesh.cli.run import report, run, summary

TASK: dict[str, Any] = {
    "task_id": "task_1",
    "status": "completed",
    "started_at": "2026-11-22T13:50:46.207Z",
    "finished_at": "2026-11-22T13:50:49.945Z",
    "progress": {"steps_total": 6, "steps_done": 6},
    "usage": {"prompt_tokens": 8513, "completion_tokens": 2988, "calls": 7},
    "models": ["claude", "gpt"],
    "cost_usd": 0.046906,
    "sandbox": False,
    "result": {"content": "# Title\n\n[b]Body[/b]", "explanation": "", "confidence": 0.9},
    "error": None,
}


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{1", "is not JSON"), (b"[1]", "JSON object"), (b"\xff\xfe", "is not JSON"), (None, "does not exist")],
)
def test_a_context_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "product.json"
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(run, ["A task", "--context", str(file)])
    assert result.exit_code != 0
    assert "product.json" in result.output
    assert said in result.output


def test_help_teaches_by_example_each_on_a_line_of_its_own() -> None:
    lines = [line.strip() for line in CliRunner().invoke(run, ["--help"]).output.splitlines()]
    assert 'mesh run "Create an e-mail campaign for TechPro X1"' in lines


def test_the_result_is_printed_as_it_is_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(TASK, quiet())
    assert capsys.readouterr().out == TASK["result"]["content"] + "\n"


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        ("failed", {"code": "timeout", "detail": "The time is over."}, "failed. The time is over. (timeout)"),
        ("cancelled", None, "cancelled."),
    ],
)
def test_another_end_is_an_error_that_says_why(
    status: str, error: dict[str, str] | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(click.ClickException) as raised:
        report(TASK | {"status": status, "error": error, "result": None}, quiet())
    assert raised.value.message.endswith(said)
    assert raised.value.exit_code == 1
    assert capsys.readouterr().out == ""


def test_the_summary_has_time_steps_calls_tokens_and_cost() -> None:
    assert summary(TASK) == (
        "task_1 completed in 3.7 s: 6 steps, 7 model calls (claude, gpt), 8,513 tokens in and 2,988 out, $0.0469."
    )


def test_canned_answers_are_never_passed_off_as_paid_ones() -> None:
    assert "sandbox" in summary(TASK | {"sandbox": True})
