"""Gemini's generateContent and streamGenerateContent; fields in camelCase or snake_case, as the API takes both."""

from collections.abc import Mapping
from typing import Any

from mesh.sandbox.exchange import Answer, Ask, BadRequestError, Frames, Json, pieces, text_of
from mesh.sandbox.formats import sse

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "blocked": "SAFETY"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}
METHODS = {"generateContent": False, "streamGenerateContent": True}


class Gemini:
    """`POST /gemini/v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`."""

    request_id_header = "x-request-id"

    def key(self, headers: Mapping[str, str]) -> str:
        """`x-goog-api-key`."""
        return headers.get("x-goog-api-key", "")

    def parse(self, body: Json, call: str) -> Ask:
        """Read a request; model and method stand in the path."""
        model, _, method = call.rpartition(":")
        if method not in METHODS or not model:
            raise BadRequestError(f"models/{{model}}:{method} is not served; there are {', '.join(METHODS)}")
        if not isinstance(body.get("contents"), list) or not body["contents"]:
            raise BadRequestError("contents is not specified")
        settings = _get(body, "generationConfig", "generation_config") or {}
        system = text_of((_get(body, "systemInstruction", "system_instruction") or {}).get("parts"))
        spoken = ((_role(each.get("role")), text_of(each.get("parts"))) for each in body["contents"])
        return Ask(
            model=model,
            stream=METHODS[method],
            messages=((("system", system),) if system else ()) + tuple(spoken),
            schema=_schema(settings),
            max_tokens=_get(settings, "maxOutputTokens", "max_output_tokens"),
        )

    def plain(self, ask: Ask, answer: Answer) -> Json:
        """One response with one candidate."""
        return _response(ask, answer, answer.text, FINISH[answer.finish])

    def frames(self, ask: Ask, answer: Answer) -> Frames:
        """Responses in a row; the last one carries the finish reason."""
        deltas = [sse.data(_response(ask, answer, piece, None)) for piece in pieces(answer.text)]
        return Frames([], deltas, [sse.data(_response(ask, answer, "", FINISH[answer.finish]))])

    def error(self, status: int, kind: str, message: str, request_id: str) -> Json:
        """Google's error object."""
        del kind, request_id  # Google's statuses follow from HTTP's
        return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNAVAILABLE")}}


def _get(settings: Json, camel: str, snake: str) -> Any:  # noqa: ANN401  # any JSON value
    return settings.get(camel, settings.get(snake))


def _schema(settings: Json) -> Json | None:
    schema = _get(settings, "responseJsonSchema", "response_json_schema") or _get(
        settings, "responseSchema", "response_schema"
    )
    wants_json = _get(settings, "responseMimeType", "response_mime_type") == "application/json"
    return schema or ({"type": "object"} if wants_json else None)


def _role(role: object) -> str:
    return "assistant" if role == "model" else str(role or "user")


def _response(ask: Ask, answer: Answer, text: str, finish: str | None) -> Json:
    candidate: Json = {"index": 0}
    if answer.finish != "blocked":
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": answer.completion_tokens,
        "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
        "cachedContentTokenCount": 0,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.prompt_tokens}],
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": ask.model, "responseId": answer.id}
