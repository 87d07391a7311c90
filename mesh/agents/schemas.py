"""The two replies asked of a model: their JSON schemas for the provider, their models and parsers for what comes back.

agents.runner -> here.  The schemas stay within what strict modes accept (OpenAI, Anthropic, Gemini and Groq refuse or
ignore lengths, ranges and defaults); those limits are in the models, so that a reply is checked in full either way.
Error texts name places and never repeat the reply, so they can go into a prompt and a log.
"""

import json
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mesh.errors import InvalidReplyError

MAX_SUBTASKS = 20
MAX_RESULT_CHARACTERS = 200_000
MAX_MEMORY_CHARACTERS = 10_000
MAX_DESCRIPTION_CHARACTERS = 10_000
MAX_KEY_CHARACTERS = 100

_NOT_BLANK = r"\S"
_MESSAGES = {
    "json_invalid": "the reply is not one complete JSON object",
    "string_unicode": "the reply is not valid Unicode text",
    "extra_forbidden": "holds a field that the schema does not have",
    "string_pattern_mismatch": "must not be blank",
}

MemoryType = Literal["fact", "context", "decision", "feedback"]


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd")  # PostgreSQL's text cannot hold NUL


Storable = Annotated[str, AfterValidator(_storable)]
Text = Annotated[Storable, Field(max_length=MAX_RESULT_CHARACTERS)]
Result = Annotated[Storable, Field(max_length=MAX_RESULT_CHARACTERS, pattern=_NOT_BLANK)]
Key = Annotated[Storable, Field(max_length=MAX_KEY_CHARACTERS, pattern=_NOT_BLANK)]
Description = Annotated[Storable, Field(max_length=MAX_DESCRIPTION_CHARACTERS, pattern=_NOT_BLANK)]
Content = Annotated[Storable, Field(max_length=MAX_MEMORY_CHARACTERS, pattern=_NOT_BLANK)]
Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MemoryNote(_Model):
    """Something an agent wants the network to remember."""

    type: MemoryType
    content: Content
    confidence: Confidence


class Subtask(_Model):
    """Work for one specialist; `depends_on` are keys of the same decision."""

    key: Key
    agent: str
    description: Description
    depends_on: list[Key]


class Decision(_Model):
    """The coordinator's reply: either complete with `content`, or with at least one subtask."""

    reasoning: Text
    task_complete: bool
    subtasks: Annotated[list[Subtask], Field(max_length=MAX_SUBTASKS)]
    memories: list[MemoryNote]
    # Labels of the prompt's memories; a reply is none the worse for leaving them out.
    used_memories: list[str] = Field(default_factory=list)
    content: Text
    explanation: Text
    confidence: Confidence


class Reply(_Model):
    """A specialist's reply."""

    reasoning: Text
    result: Result
    confidence: Confidence
    memories: list[MemoryNote]
    used_memories: list[str] = Field(default_factory=list)  # as above


_String: dict[str, Any] = {"type": "string"}
_Number: dict[str, Any] = {"type": "number", "description": "from 0 to 1"}


def decision_schema(agent_names: Collection[str]) -> dict[str, Any]:
    """The coordinator's schema, as `response_format["json_schema"]` takes it; `agent` is one of `agent_names`.

    The order of the properties is the order of writing: reasons come before the choice they lead to.
    """
    # No specialists, no enum: an empty one is not a valid schema. `parse_decision` then refuses every subtask.
    agent = _String | ({"enum": list(agent_names)} if agent_names else {})
    subtask = _object(key=_String, agent=agent, description=_String, depends_on=_list(_String))
    return _named(
        "mesh_decision",
        _object(
            reasoning=_String,
            task_complete={"type": "boolean"},
            subtasks=_list(subtask),
            memories=_memories(),
            used_memories=_list(_String),
            content=_String,
            explanation=_String,
            confidence=_Number,
        ),
    )


def reply_schema() -> dict[str, Any]:
    """The specialists' schema, as `response_format["json_schema"]` takes it."""
    return _named(
        "mesh_reply",
        _object(
            reasoning=_String,
            result=_String,
            confidence=_Number,
            memories=_memories(),
            used_memories=_list(_String),
        ),
    )


def parse_decision(text: str, agent_names: Collection[str], *, must_conclude: bool = False) -> Decision:
    """The decision in a coordinator's reply; whether its subtasks form a graph is `mesh.tasks.plan`'s to say.

    `must_conclude` refuses further subtasks.

    Raises:
        InvalidReplyError: not JSON, not the schema, a limit exceeded, an unknown agent, or neither or both of a
            conclusion and subtasks.
    """
    decision = _parse(Decision, text)
    errors = [*_choice_errors(decision, must_conclude=must_conclude), *_agent_errors(decision, agent_names)]
    if errors:
        raise InvalidReplyError(errors)
    return decision


def parse_reply(text: str) -> Reply:
    """A specialist's reply.

    Raises:
        InvalidReplyError: not JSON, not the schema, or a limit exceeded.
    """
    return _parse(Reply, text)


def _choice_errors(decision: Decision, *, must_conclude: bool) -> list[str]:
    if not decision.task_complete:
        if must_conclude:
            return ["task_complete: must be true, with the deliverable in content: this is the last decision"]
        return [] if decision.subtasks else ["subtasks: needs at least one, unless task_complete is true"]
    errors = [] if decision.content.strip() else ["content: must hold the deliverable when task_complete is true"]
    return errors + (["subtasks: must be empty when task_complete is true"] if decision.subtasks else [])


def _agent_errors(decision: Decision, agent_names: Collection[str]) -> list[str]:
    known = json.dumps(list(agent_names), ensure_ascii=False)
    unknown = [index for index, subtask in enumerate(decision.subtasks) if subtask.agent not in agent_names]
    return [f"subtasks[{index}].agent: unknown; must be one of {known}" for index in unknown]


_M = TypeVar("_M", bound=_Model)


def _parse(model: type[_M], text: str) -> _M:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        # The input would repeat the reply, so it is left out, and the cause with it.
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    raise InvalidReplyError([_error_text(fault["type"], fault["loc"], fault["msg"]) for fault in faults])


def _error_text(kind: str, location: tuple[int | str, ...], message: str) -> str:
    if kind == "extra_forbidden":
        location = location[:-1]  # the last part is a name that the model made up
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{place or 'reply'}: {_MESSAGES.get(kind, message)}"


def _named(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "strict": True, "schema": schema}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _memories() -> dict[str, Any]:
    kind = _String | {"enum": list(get_args(MemoryType))}
    return _list(_object(type=kind, content=_String, confidence=_Number))
