"""OpenAI's chat completions, and Groq's, which differ in little: errors, timing in the usage, the request id."""

from collections.abc import Mapping
from typing import NoReturn

from mesh.sandbox.exchange import Answer, Ask, BadRequestError, Frames, Json, pieces, text_of
from mesh.sandbox.formats import sse

FINISH = {"stop": "stop", "length": "length", "blocked": "content_filter"}
ERRORS: dict[str, tuple[str, str | None]] = {
    "400": ("invalid_request_error", None),
    "401": ("invalid_request_error", "invalid_api_key"),
    "403": ("permission_error", "permission_denied"),
    "404": ("invalid_request_error", "model_not_found"),
    "408": ("timeout", "request_timeout"),
    "429": ("requests", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "context_length": ("invalid_request_error", "context_length_exceeded"),
}


class OpenAI:
    """`POST /openai/v1/chat/completions`."""

    request_id_header = "x-request-id"
    service_tier = "default"

    def key(self, headers: Mapping[str, str]) -> str:
        """The bearer token."""
        return headers.get("Authorization", "").removeprefix("Bearer").strip()

    def parse(self, body: Json, call: str) -> Ask:
        """Read a chat completion request; a forced function counts as the wanted schema."""
        del call  # the model stands in the body
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise BadRequestError("Missing required parameter: 'messages'.")
        messages = tuple((_role(each.get("role")), text_of(each.get("content"))) for each in body["messages"])
        name, schema, tool = _wanted(body)
        return Ask(
            model=str(body.get("model") or _missing("model")),
            stream=bool(body.get("stream")),
            messages=tuple(sorted(messages, key=lambda message: message[0] != "system")),
            schema=schema,
            schema_name=name,
            tool=tool,
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )

    def plain(self, ask: Ask, answer: Answer) -> Json:
        """One `chat.completion`."""
        message: Json = {"role": "assistant", "content": answer.text or None, "refusal": None}
        if ask.tool and answer.text:
            message |= {"content": None, "tool_calls": [_tool_call(ask.tool, answer, answer.text)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(ask, answer)}
        return self._envelope(ask, answer, "chat.completion") | {"choices": [choice], "usage": self.usage(answer)}

    def frames(self, ask: Ask, answer: Answer) -> Frames:
        """`chat.completion.chunk` events, closed by `[DONE]`."""
        envelope = self._envelope(ask, answer, "chat.completion.chunk")

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            return sse.data(envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        opening: Json = {"role": "assistant", "content": None if ask.tool else ""}
        if ask.tool:
            opening["tool_calls"] = [{"index": 0} | _tool_call(ask.tool, answer, "")]
        tail = [chunk({}, _finish(ask, answer))]
        if ask.include_usage:
            tail.append(sse.data(envelope | {"choices": [], "usage": self.usage(answer)}))
        deltas = [chunk(_delta(ask, piece)) for piece in pieces(answer.text)]
        return Frames([chunk(opening)], deltas, [*tail, b"data: [DONE]\n\n"])

    def error(self, status: int, kind: str, message: str, request_id: str) -> Json:
        """OpenAI's error object."""
        del request_id  # a header only
        type_, code = ERRORS.get(kind, ("server_error" if status >= 500 else "invalid_request_error", None))
        return {"error": {"message": message, "type": type_, "param": None, "code": code}}

    def usage(self, answer: Answer) -> Json:
        """Tokens, with the details that OpenAI always sends."""
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def _envelope(self, ask: Ask, answer: Answer, kind: str) -> Json:
        identity = {"id": f"chatcmpl-{answer.id}", "object": kind, "created": answer.created}
        return identity | {"model": ask.model, "system_fingerprint": "fp_sandbox", "service_tier": self.service_tier}


class Groq(OpenAI):
    """`POST /groq/openai/v1/chat/completions`."""

    service_tier = "on_demand"

    def usage(self, answer: Answer) -> Json:
        """Tokens, and Groq's timings in seconds."""
        return super().usage(answer) | {
            "queue_time": 0.0,
            "prompt_time": 0.0,
            "completion_time": 0.0,
            "total_time": 0.0,
        }


def _missing(name: str) -> NoReturn:
    raise BadRequestError(f"Missing required parameter: '{name}'.")


def _role(role: object) -> str:
    return "system" if role == "developer" else str(role)


def _wanted(body: Json) -> tuple[str, Json | None, str | None]:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        named = wanted.get("json_schema") or _missing("response_format.json_schema")
        return str(named.get("name", "")), named.get("schema") or {}, None
    forced = body.get("tool_choice")
    if isinstance(forced, dict):
        name = str(forced["function"]["name"])
        for tool in body.get("tools") or ():
            if tool["function"]["name"] == name:
                return name, tool["function"].get("parameters") or {}, name
        raise BadRequestError("'tool_choice' names a function that 'tools' does not hold.")
    return "", {"type": "object"} if wanted.get("type") == "json_object" else None, None


def _finish(ask: Ask, answer: Answer) -> str:
    return "tool_calls" if ask.tool and answer.finish == "stop" else FINISH[answer.finish]


def _tool_call(name: str, answer: Answer, arguments: str) -> Json:
    return {"id": f"call_{answer.id}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _delta(ask: Ask, piece: str) -> Json:
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} if ask.tool else {"content": piece}
