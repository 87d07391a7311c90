"""Anthropic's messages: a schema comes as `output_format`, as `output_config.format`, or as a forced tool."""

import json
from collections.abc import Mapping

from mesh.sandbox.exchange import Answer, Ask, BadRequestError, Frames, Json, pieces, text_of
from mesh.sandbox.formats import sse

FINISH = {"stop": "end_turn", "length": "max_tokens", "blocked": "refusal"}
ERRORS = {
    "400": "invalid_request_error",
    "context_length": "invalid_request_error",
    "401": "authentication_error",
    "403": "permission_error",
    "404": "not_found_error",
    "408": "timeout_error",
    "429": "rate_limit_error",
    "quota": "rate_limit_error",
    "529": "overloaded_error",
}


class Anthropic:
    """`POST /anthropic/v1/messages`."""

    request_id_header = "request-id"

    def key(self, headers: Mapping[str, str]) -> str:
        """`x-api-key`, or a bearer token."""
        return headers.get("x-api-key") or headers.get("Authorization", "").removeprefix("Bearer").strip()

    def parse(self, body: Json, call: str) -> Ask:
        """Read a messages request."""
        del call  # the model stands in the body
        for name in ("model", "messages", "max_tokens"):
            if not body.get(name):
                raise BadRequestError(f"{name}: Field required")
        name, schema, tool = _wanted(body)
        system = text_of(body.get("system"))
        spoken = ((str(each.get("role")), text_of(each.get("content"))) for each in body["messages"])
        return Ask(
            model=str(body["model"]),
            stream=bool(body.get("stream")),
            messages=((("system", system),) if system else ()) + tuple(spoken),
            schema=schema,
            schema_name=name,
            tool=tool,
            max_tokens=int(body["max_tokens"]),
        )

    def plain(self, ask: Ask, answer: Answer) -> Json:
        """One message."""
        content: list[Json] = []
        if answer.text:
            content = [_block(ask, answer, _input(answer.text) if ask.tool else answer.text)]
        return _message(ask, answer, content) | {"stop_reason": _finish(ask, answer), "usage": _usage(answer)}

    def frames(self, ask: Ask, answer: Answer) -> Frames:
        """`message_start` to `message_stop`."""
        usage = _usage(answer)
        start = _message(ask, answer, []) | {"stop_reason": None, "usage": usage | {"output_tokens": 1}}
        opened = {
            "type": "content_block_start",
            "index": 0,
            "content_block": _block(ask, answer, {} if ask.tool else ""),
        }
        name, kind = ("partial_json", "input_json_delta") if ask.tool else ("text", "text_delta")
        delta = {"type": "content_block_delta", "index": 0}
        stop = {"stop_reason": _finish(ask, answer), "stop_sequence": None}
        blocks = bool(answer.text)
        return Frames(
            [sse.event({"type": "message_start", "message": start}), *([sse.event(opened)] if blocks else [])],
            [sse.event(delta | {"delta": {"type": kind, name: piece}}) for piece in pieces(answer.text)],
            [
                *([sse.event({"type": "content_block_stop", "index": 0})] if blocks else []),
                sse.event({"type": "message_delta", "delta": stop, "usage": usage}),
                sse.event({"type": "message_stop"}),
            ],
        )

    def error(self, status: int, kind: str, message: str, request_id: str) -> Json:
        """Anthropic's error object."""
        del status  # the type says it
        error = {"type": ERRORS.get(kind, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": request_id}


def _wanted(body: Json) -> tuple[str, Json | None, str | None]:
    wanted = body.get("output_format") or (body.get("output_config") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return "", wanted.get("schema") or {}, None
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "tool":
        for tool in body.get("tools") or ():
            if tool.get("name") == choice.get("name"):
                return str(tool["name"]), tool.get("input_schema") or {}, str(tool["name"])
        raise BadRequestError(f"tool_choice: tool {choice.get('name')!r} is not among tools")
    return "", None, None


def _input(text: str) -> Json:
    try:
        return dict(json.loads(text))
    except ValueError:  # cut short: of a plain answer's tool input nothing can be read then
        return {}


def _finish(ask: Ask, answer: Answer) -> str:
    return "tool_use" if ask.tool and answer.finish == "stop" else FINISH[answer.finish]


def _block(ask: Ask, answer: Answer, content: Json | str) -> Json:
    if ask.tool:
        return {"type": "tool_use", "id": f"toolu_{answer.id}", "name": ask.tool, "input": content}
    return {"type": "text", "text": content}


def _message(ask: Ask, answer: Answer, content: list[Json]) -> Json:
    message = {"id": f"msg_{answer.id}", "type": "message", "role": "assistant", "model": ask.model}
    return message | {"content": content, "stop_sequence": None}


def _usage(answer: Answer) -> Json:
    return {
        "input_tokens": answer.prompt_tokens,
        "output_tokens": answer.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
