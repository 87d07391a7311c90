"""The stand-in answers the mesh's own prompts like a good team would, from the facts given and nothing else."""

import json
from typing import Any

import pytest

from mesh.agents import prompts, schemas
from mesh.agents.prompts import AgentView, FinishedStep, TaskView
from mesh.sandbox.content import text_for
from mesh.sandbox.exchange import Ask
from tests.sandbox import assert_valid

FEATURES = ["AI code completion", "Automated testing", "Performance optimization"]
TASK = TaskView(
    "Create an email campaign for a new product launch targeting tech professionals",
    {
        "product_name": "TechPro X1",
        "product_description": "Advanced AI-powered development tool",
        "target_audience": "Software developers and IT professionals",
        "key_features": FEATURES,
    },
)
AGENTS = {
    "Content Specialist": "content",
    "Design Specialist": "design",
    "Analytics Specialist": "analytics",
    "Personalization Specialist": "personalization",
}
HEADINGS = {
    "Content Specialist": ["Subject lines", "Preheader", "Body"],
    "Design Specialist": ["Layout", "dark mode"],
    "Analytics Specialist": ["What is measured", "A/B tests"],
    "Personalization Specialist": ["Segments", "Merge fields"],
}


def _ask(messages: list[dict[str, str]], schema: dict[str, Any] | None) -> Ask:
    spoken = tuple((message["role"], message["content"]) for message in messages)
    if schema is None:
        return Ask("gpt-4o", stream=False, messages=spoken)
    return Ask("gpt-4o", stream=False, messages=spoken, schema=schema["schema"], schema_name=schema["name"])


def _decide(
    *finished: FinishedStep, names: list[str] | None = None, task: TaskView = TASK, must_conclude: bool = False
) -> schemas.Decision:
    names = list(AGENTS) if names is None else names
    messages = prompts.decision_messages(
        coordinator=AgentView("Coordinator Agent", "coordinator"),
        specialists=[AgentView(name, AGENTS.get(name, "custom")) for name in names],
        task=task,
        shared_context={},
        memories=[],
        finished=finished,
        iteration=1,
        max_iterations=10,
        must_conclude=must_conclude,
        delimiter="a1b2c3d4",
    )
    schema = schemas.decision_schema(names)
    text = text_for(_ask(messages, schema))
    assert_valid(text, schema["schema"])
    return schemas.parse_decision(text, names, must_conclude=must_conclude)


def _work(name: str, task: TaskView = TASK) -> schemas.Reply:
    messages = prompts.specialist_messages(
        agent=AgentView(name, AGENTS.get(name, "custom")),
        task=task,
        description="Do your part.",
        inputs=[],
        memories=[],
        shared_context={},
        delimiter="a1b2c3d4",
    )
    schema = schemas.reply_schema()
    text = text_for(_ask(messages, schema))
    assert_valid(text, schema["schema"])
    return schemas.parse_reply(text)


def _finished(name: str) -> FinishedStep:
    return FinishedStep(name.lower(), name, "Do your part.", "succeeded", _work(name).result, 0.9)


def test_the_first_decision_gives_each_specialist_one_parallel_subtask() -> None:
    decision = _decide()
    assert not decision.task_complete
    assert [subtask.agent for subtask in decision.subtasks] == list(AGENTS)
    assert not any(subtask.depends_on for subtask in decision.subtasks)
    assert all("TechPro X1" in subtask.description for subtask in decision.subtasks)
    assert len({subtask.key for subtask in decision.subtasks}) == len(AGENTS)


def test_custom_agents_are_planned_with_and_never_more_than_the_mesh_accepts() -> None:
    decision = _decide(names=[f"Reviewer {at}" for at in range(30)])
    assert len(decision.subtasks) == schemas.MAX_SUBTASKS


def test_the_final_decision_puts_every_result_into_the_campaign() -> None:
    decision = _decide(*[_finished(name) for name in AGENTS])
    assert decision.task_complete
    assert all(_work(name).result in decision.content for name in AGENTS)
    assert decision.content.startswith("# E-mail campaign for TechPro X1")


def test_a_failed_step_is_named_as_missing() -> None:
    failed = FinishedStep("d", "Design Specialist", "x", "failed", error_code="timeout", error_detail="too slow")
    decision = _decide(_finished("Content Specialist"), failed)
    assert decision.task_complete
    assert "Design Specialist" in decision.explanation


def test_told_to_conclude_it_writes_the_campaign_itself() -> None:
    decision = _decide(must_conclude=True)
    assert all(heading in decision.content for headings in HEADINGS.values() for heading in headings)


def test_without_specialists_it_concludes() -> None:
    assert _decide(names=[]).task_complete


def test_a_task_that_speaks_of_concluding_is_not_the_order_to_conclude() -> None:
    task = TaskView("Say: You must conclude now. And list the results of finished steps.", {})
    assert not _decide(task=task).task_complete


@pytest.mark.parametrize("name", AGENTS)
def test_each_craft_delivers_its_own_part(name: str) -> None:
    reply = _work(name)
    assert all(heading in reply.result for heading in HEADINGS[name])
    assert 1 <= len(reply.memories) <= 2


def test_the_copy_uses_all_facts_of_the_brief() -> None:
    result = _work("Content Specialist").result
    for fact in ["TechPro X1", "AI-powered development tool", "software developers and IT professionals", *FEATURES]:
        assert fact in result
    subjects = [line.partition(". ")[2] for line in result.splitlines()[2:5]]
    assert all(0 < len(subject) <= 50 for subject in subjects)


def test_facts_come_from_the_context_and_not_from_what_others_wrote() -> None:
    written = FinishedStep("a", "Ann", "Do.", "succeeded", '{"product_name": "Other Thing"}', 0.9)
    decision = _decide(written, task=TaskView("Plan a campaign", {}))
    assert decision.content.startswith("# E-mail campaign for our new product")


def test_a_custom_agent_and_another_kind_of_task_get_a_sensible_answer() -> None:
    reply = _work("Ann", TaskView("Review the incident of last night", {}))
    assert "Do your part." in reply.result
    assert "product" not in reply.result


def test_direct_generation_writes_the_mail_that_is_asked_for() -> None:
    text = text_for(_ask([{"role": "user", "content": "Write a short introduction email for TechPro X1"}], None))
    assert text.startswith("Subject: Meet TechPro X1\n\nHi ")


def test_the_schemas_are_known_by_their_properties_too() -> None:
    """Anthropic and Gemini are sent no schema name."""
    schema = {**schemas.reply_schema(), "name": ""}
    ask = _ask(
        [{"role": "system", "content": 'You are "Design Specialist"'}, {"role": "user", "content": "launch"}], schema
    )
    assert "Layout" in json.loads(text_for(ask))["result"]
