"""What the end of a model call means for its step: settled with what is stored, or tried again when it may be."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

import pytest

from mesh.agents.runner import Runner
from mesh.errors import ModelCallError
from mesh.models.calls import Usage
from mesh.tasks.execution import Execution
from mesh.testing import FakeModels
from tests.builders import decision, gateway, subtask
from tests.integration.tasks.core import WORKER, Core

QUEUE = "agent.coordinator"


def execution(core: Core, replies: Iterable[str | ModelCallError]) -> Execution:
    models = FakeModels(replies, usage=Usage(1000, 200, 300, 40), cost_usd=Decimal("0.0123456789012"))
    return Execution(
        database=core.database,
        runner=Runner(gateway(models, "openai", "groq")),
        orchestrator=core.orchestrator,
        dispatcher=core.dispatcher,
        wakeups=core.wakeups,
        clock=core.clock,
        worker_id=WORKER,
        queues=[QUEUE],
        sandbox=True,
    )


def limited(seconds: float | None) -> ModelCallError:
    return ModelCallError("rate_limited", "Wait.", status=429, retry_after_seconds=seconds)


def test_a_reply_is_settled_to_the_last_digit_with_the_step_that_it_ends(core: Core) -> None:
    task_id = core.submit(core.network()).task_id
    execution(core, [decision().model_dump_json()]).serve(QUEUE, refill=False)
    [row] = core.calls(task_id)
    assert (row.state, row.cost_usd, row.estimated) == ("settled", Decimal("0.0123456789012"), False)
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens) == (1000, 200, 300, 40)
    assert core.task(task_id).status == "completed"


@pytest.mark.parametrize(
    ("asked_for", "pause"), [((30, 90), 30), ((90, 30), 30), ((None, 45), 1), ((0.2, None), 1), ((None, None), 1)]
)
def test_a_rate_limited_step_waits_until_one_of_its_models_may_be_asked_again(
    asked_for: tuple[float | None, float | None], pause: float, core: Core
) -> None:
    """Nobody holds a slot meanwhile."""
    task_id = core.submit(core.network()).task_id
    execution(core, [limited(seconds) for seconds in asked_for]).serve(QUEUE, refill=False)
    [step] = core.steps(task_id)
    assert (step.state, step.turn, step.failures) == ("ready", None, 1)
    assert step.not_before == core.clock() + timedelta(seconds=pause)
    assert [row.cost_usd for row in core.calls(task_id)] == [0, 0]
    assert core.try_claim(QUEUE) is None


def test_what_every_model_refuses_for_good_is_not_tried_again(core: Core) -> None:
    task_id = core.submit(core.network()).task_id
    refusals = [ModelCallError("not_authorized", "No."), ModelCallError("model_not_found", "No.")]
    execution(core, refusals).serve(QUEUE, refill=False)
    assert core.task(task_id).status == "failed"
    assert [step.state for step in core.steps(task_id)] == ["failed"]


def test_a_plan_that_cannot_be_carried_out_is_repaired_like_any_invalid_reply(core: Core) -> None:
    task_id = core.submit(core.network("content")).task_id
    circle = decision(subtask("a", "content", "b"), subtask("b", "content", "a"))
    execution(core, [circle.model_dump_json(), decision().model_dump_json()]).serve(QUEUE, refill=False)
    assert [(row.state, row.error_code) for row in core.calls(task_id)] == [
        ("failed", "invalid_reply"),
        ("settled", None),
    ]
    assert core.states(task_id) == {"decision_1": "succeeded"}
