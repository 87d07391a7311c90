"""The runner: what a model is asked for an agent, and which replies count."""

from dataclasses import replace

import pytest

from mesh.agents.kinds import kind_of
from mesh.agents.prompts import AgentView, FinishedStep, MemoryView, TaskView
from mesh.agents.runner import DecisionBrief, Runner, StepBrief, Terms
from mesh.agents.schemas import Decision
from mesh.errors import AllModelsFailedError, InvalidReplyError, ModelCallError
from mesh.models.calls import Cancellation, ModelCall, Preferences
from mesh.testing import FakeModels
from tests.builders import agent_reply, decision, gateway, subtask

COORDINATOR = AgentView("Coordinator Agent", "coordinator", "Coordinates")
WRITER = AgentView("Writer", "content", "Writes")
MEMORY = MemoryView("memory_1", "fact", "Our readers are developers.", 0.9)
TASK = TaskView("Write a campaign.", {"product": "TechPro X1"})
STEP = StepBrief(WRITER, Preferences(), None, {}, TASK, {"brand": "TechPro"}, [MEMORY], "Write the subject lines.", [])
DECISION = DecisionBrief(
    COORDINATOR, Preferences(), None, {}, TASK, {}, [MEMORY], [WRITER], [], 1, 10, must_conclude=False
)


class Unwritten:
    """A journal that keeps nothing."""

    def opened(self, call: ModelCall, **_: object) -> None:
        """Let it be made."""

    def failed(self, call: ModelCall, *_: object, **__: object) -> None:
        """Forget it."""

    def cancelled(self, call: ModelCall, **_: object) -> None:
        """Forget it."""


def runner(models: FakeModels) -> Runner:
    return Runner(gateway(models, "openai"))


def terms() -> Terms:
    return Terms(Unwritten(), Cancellation(), 30)


def fits(_: Decision) -> None:
    """Any plan will do."""


def test_a_specialist_is_shown_its_subtask_inputs_memory_and_context() -> None:
    models = FakeModels([agent_reply("Done").model_dump_json()])
    given = FinishedStep("research", "Analyst", "Find out", "succeeded", "THE INPUT", 0.7)
    reply = runner(models).reply(replace(STEP, inputs=[given]), terms())
    assert reply.value.result == "Done"
    [call] = models.calls
    shown = call.messages[1]["content"]
    for text in ("Write the subject lines.", "THE INPUT", MEMORY.content, "TechPro X1", '"brand"'):
        assert text in shown
    assert call.schema
    assert call.schema["name"] == "mesh_reply"


def test_the_coordinator_may_name_its_specialists_only() -> None:
    stranger = decision(subtask("a", "Nobody")).model_dump_json()
    models = FakeModels([stranger, decision(subtask("a", "Writer")).model_dump_json()])
    reply = runner(models).decide(DECISION, terms(), check=fits)
    assert [one.agent for one in reply.value.subtasks] == ["Writer"]
    first, repaired = models.calls
    assert first.schema
    schema = first.schema["schema"]["properties"]["subtasks"]["items"]["properties"]["agent"]
    assert schema["enum"] == ["Writer"]
    assert "subtasks[0].agent" in repaired.messages[-1]["content"]


def test_a_plan_that_the_check_refuses_is_asked_for_again_with_the_reason() -> None:
    def refuse_first(_: Decision) -> None:
        if len(models.calls) == 1:
            raise InvalidReplyError(["subtasks: run in a circle"])

    models = FakeModels([decision(subtask("a", "Writer")).model_dump_json()] * 2)
    runner(models).decide(DECISION, terms(), check=refuse_first)
    assert "run in a circle" in models.calls[1].messages[-1]["content"]


def test_the_last_decision_must_conclude() -> None:
    more_work = decision(subtask("a", "Writer")).model_dump_json()
    models = FakeModels([more_work, more_work])
    with pytest.raises(AllModelsFailedError):
        runner(models).decide(replace(DECISION, must_conclude=True), terms(), check=fits)


@pytest.mark.parametrize("agent_type", ["content", "design", "somebody's own"])
def test_an_agent_without_parameters_is_called_as_its_kind(agent_type: str) -> None:
    models = FakeModels([agent_reply().model_dump_json()])
    runner(models).reply(replace(STEP, agent=replace(WRITER, type=agent_type)), terms())
    [call] = models.calls
    defaults = kind_of(agent_type).parameters
    assert (call.temperature, call.max_tokens, call.top_p) == (defaults.temperature, defaults.max_tokens, None)


def test_an_agents_own_parameters_and_model_win() -> None:
    models = FakeModels([agent_reply().model_dump_json()])
    own = {"temperature": 0.0, "max_tokens": 77, "top_p": 0.2}
    runner(models).reply(replace(STEP, preferences=Preferences(model="gpt-4o-mini"), parameters=own), terms())
    [call] = models.calls
    assert (call.model.name, call.temperature, call.max_tokens, call.top_p) == ("gpt-4o-mini", 0.0, 77, 0.2)


def test_each_prompt_has_delimiters_that_nobody_can_know_before() -> None:
    replies = [agent_reply().model_dump_json()] * 2
    models = FakeModels(replies)
    for _ in replies:
        runner(models).reply(STEP, terms())
    first, second = (call.messages[1]["content"] for call in models.calls)
    assert first != second


def test_a_failure_of_all_models_reaches_the_caller() -> None:
    with pytest.raises(AllModelsFailedError):
        runner(FakeModels([ModelCallError("provider_error", "Down.")])).reply(STEP, terms())
