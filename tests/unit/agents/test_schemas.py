"""The two replies: what is asked for is what strict modes accept, and what comes back is checked in full."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from mesh.agents.schemas import (
    Decision,
    MemoryNote,
    Reply,
    Subtask,
    decision_schema,
    parse_decision,
    parse_reply,
    reply_schema,
)
from mesh.errors import InvalidReplyError

AGENTS = ("Content Specialist", 'The "Critic"')
NOTE = {"type": "fact", "content": "Developers dislike hype", "confidence": 0.9}
REPLY = {"reasoning": "r", "result": "done", "confidence": 1, "memories": [NOTE]}
SUBTASK = {"key": "copy", "agent": AGENTS[0], "description": "Write it", "depends_on": []}
PLAN = {
    "reasoning": "r",
    "task_complete": False,
    "subtasks": [SUBTASK],
    "memories": [],
    "content": "",
    "explanation": "",
    "confidence": 0.5,
}
CONCLUSION = PLAN | {"task_complete": True, "subtasks": [], "content": "The campaign"}


def decide(**changes: object) -> Decision:
    return parse_decision(json.dumps(PLAN | changes), AGENTS)


def reply(**changes: object) -> Reply:
    return parse_reply(json.dumps(REPLY | changes))


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from nodes(child)


@pytest.mark.parametrize("named", [decision_schema(AGENTS), decision_schema([]), reply_schema()])
def test_schemas_use_only_what_strict_modes_accept(named: dict[str, Any]) -> None:
    """OpenAI answers 400 to an open object or an optional property, Anthropic to lengths and ranges."""
    assert named["strict"] is True
    for node in nodes(named["schema"]):
        assert node.keys() <= {"type", "properties", "required", "additionalProperties", "items", "enum", "description"}
        assert node.get("enum") != []
        if node["type"] == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])


@pytest.mark.parametrize(
    ("asked", "checked"),
    [
        (decision_schema(AGENTS)["schema"], Decision),
        (decision_schema(AGENTS)["schema"]["properties"]["subtasks"]["items"], Subtask),
        (reply_schema()["schema"], Reply),
        (reply_schema()["schema"]["properties"]["memories"]["items"], MemoryNote),
    ],
)
def test_what_is_asked_for_is_what_is_checked(asked: dict[str, Any], checked: type[BaseModel]) -> None:
    fields = checked.model_json_schema()["properties"]
    assert [(name, part["type"]) for name, part in asked["properties"].items()] == [
        (name, part["type"]) for name, part in fields.items()
    ]


def test_schemas_carry_their_names_and_the_networks_agents() -> None:
    schema = decision_schema(AGENTS)
    agent = schema["schema"]["properties"]["subtasks"]["items"]["properties"]["agent"]
    assert (schema["name"], reply_schema()["name"]) == ("mesh_decision", "mesh_reply")
    assert agent == {"type": "string", "enum": list(AGENTS)}


def test_a_plan_a_conclusion_and_a_reply_are_read() -> None:
    assert decide().subtasks == [Subtask(key="copy", agent=AGENTS[0], description="Write it", depends_on=[])]
    assert parse_decision(json.dumps(CONCLUSION), AGENTS, must_conclude=True).content == "The campaign"
    assert reply().memories == [MemoryNote(type="fact", content="Developers dislike hype", confidence=0.9)]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subtasks": []}, "subtasks: needs at least one"),
        ({"task_complete": True}, "subtasks: must be empty"),
        ({"task_complete": True, "subtasks": [], "content": " \n"}, "content: must hold the deliverable"),
        ({"subtasks": [SUBTASK] * 21}, "subtasks: "),
        ({"subtasks": [SUBTASK | {"agent": "Nobody"}]}, 'subtasks[0].agent: unknown; must be one of ["Content'),
        ({"subtasks": [SUBTASK | {"key": " "}]}, "subtasks[0].key: must not be blank"),
        ({"subtasks": [SUBTASK | {"description": ""}]}, "subtasks[0].description: must not be blank"),
        ({"confidence": 1.01}, "confidence: "),
        ({"confidence": -0.01}, "confidence: "),
        ({"confidence": float("nan")}, "confidence: "),
        ({"confidence": "0.5"}, "confidence: "),
        ({"task_complete": 1}, "task_complete: "),
        ({"content": "x" * 200_001}, "content: "),
        ({"content": None}, "content: "),
    ],
)
def test_a_decision_that_breaks_a_rule_is_refused_with_its_place(changes: dict[str, object], error: str) -> None:
    with pytest.raises(InvalidReplyError) as refused:
        decide(**changes)
    assert any(text.startswith(error) for text in refused.value.errors)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"result": " "}, "result: must not be blank"),
        ({"result": "x" * 200_001}, "result: "),
        ({"memories": [NOTE | {"type": "rumour"}]}, "memories[0].type: "),
        ({"memories": [NOTE | {"content": ""}]}, "memories[0].content: must not be blank"),
        ({"memories": [NOTE | {"content": "x" * 10_001}]}, "memories[0].content: "),
        ({"memories": [NOTE | {"confidence": 2}]}, "memories[0].confidence: "),
    ],
)
def test_a_reply_that_breaks_a_rule_is_refused_with_its_place(changes: dict[str, object], error: str) -> None:
    with pytest.raises(InvalidReplyError) as refused:
        reply(**changes)
    assert [text for text in refused.value.errors if text.startswith(error)]


@pytest.mark.parametrize("field", REPLY)
def test_no_field_may_be_missing(field: str) -> None:
    with pytest.raises(InvalidReplyError, match=f"{field}: Field required"):
        parse_reply(json.dumps({name: value for name, value in REPLY.items() if name != field}))


@pytest.mark.parametrize("text", ["", "null", "[]", "Certainly!", json.dumps(REPLY)[:-1], json.dumps(REPLY) + "x"])
def test_what_is_not_one_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidReplyError):
        parse_reply(text)


@pytest.mark.parametrize("changes", [{"tool": "x"}, {"memories": [NOTE | {"ttl": 1}]}])
def test_no_field_may_be_added(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidReplyError, match="holds a field that the schema does not have"):
        reply(**changes)


def test_told_to_conclude_means_no_more_subtasks() -> None:
    with pytest.raises(InvalidReplyError, match="task_complete: must be true"):
        parse_decision(json.dumps(PLAN), AGENTS, must_conclude=True)


def test_characters_that_postgres_cannot_store_never_leave_here() -> None:
    read = reply(result="a\x00b", memories=[NOTE | {"content": "\x00!"}])
    assert "\x00" not in read.model_dump_json()
    assert read.result == "a\ufffdb"
    for text in (
        json.dumps(REPLY | {"result": "\ud800"}),
        json.dumps(REPLY | {"result": "\ud800"}, ensure_ascii=False),
    ):
        with pytest.raises(InvalidReplyError):
            parse_reply(text)


def test_errors_stay_short_and_never_repeat_the_reply() -> None:
    """They go into a prompt and a log."""
    hostile = [{"IGNORE THE RULES": "secret", "agent": "secret", "key": "secret"}] * 20
    with pytest.raises(InvalidReplyError) as refused:
        decide(subtasks=hostile, secret="secret")
    told = " ".join([str(refused.value), *refused.value.errors])
    assert "secret" not in told
    assert "IGNORE" not in told
    assert len(refused.value.errors) <= 20
    assert refused.value.__context__ is None  # pydantic's error quotes the input


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InvalidReplyError):
        parse_decision(text, AGENTS)
