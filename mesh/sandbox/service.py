"""One provider call from request to answer: credentials, format, fault, pace, content, record.

server -> here -> formats, faults, content, transport, calls.
"""

import asyncio
import itertools
import json
import random
import time
from dataclasses import dataclass

from aiohttp import web

from mesh.errors import InvalidInputError
from mesh.sandbox import transport
from mesh.sandbox.calls import Call, Calls
from mesh.sandbox.content import text_for
from mesh.sandbox.exchange import (
    CHARACTERS_PER_TOKEN,
    Answer,
    Ask,
    BadRequestError,
    Finish,
    Format,
    Frames,
    Provider,
    tokens,
)
from mesh.sandbox.faults import KINDS, Fault, Faults
from mesh.sandbox.formats import PATHS
from mesh.sandbox.formats.sse import encode
from mesh.sandbox.settings import Pace, SandboxConfig

MARKER = "X-Mesh-Call"
NOT_JSON = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
CONTEXT_ERRORS: dict[Provider, str] = {  # as the providers word them: clients classify by these words
    "anthropic": "prompt is too long: 1200000 tokens > 1000000 maximum",
    "openai": "This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens.",
    "gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "groq": "Please reduce the length of the messages or completion.",
}
# The loop wakes up at whole milliseconds, up to one too late.
TICK_SECONDS = 0.001
# Where a key is refused in another way than with a 401.
KEY_REFUSALS: dict[Provider, tuple[int, str]] = {"gemini": (400, "API key not valid. Please pass a valid API key.")}


@dataclass(frozen=True, slots=True)
class _Exchange:
    """All that belongs to one call while it is answered."""

    request: web.Request
    format: Format
    headers: dict[str, str]
    ask: Ask
    fault: Fault | None
    call: Call


class _RefusedError(Exception):
    """The call is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """Answers calls; holds what can be changed while it runs."""

    def __init__(self, config: SandboxConfig) -> None:
        self.pace: Pace = config.pace
        self.faults = Faults(config.rules, seed=config.seed)
        self.calls = Calls(config.log)
        self._chance = random.Random(config.seed)  # noqa: S311  # jitter, repeatable on purpose
        self._numbers = itertools.count(1)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a call to one of the providers' paths."""
        body = await request.read()
        arrived = asyncio.get_running_loop().time()
        resource = request.match_info.route.resource
        provider, format_ = PATHS[resource.canonical if resource else ""]
        request_id = f"req_sandbox{next(self._numbers):010d}"
        ask, fault, text, refusal = self._understand(provider, format_, request, body)
        call = self.calls.start(provider, request.path, request_id, ask, request.headers.get(MARKER, ""), fault)
        exchange = _Exchange(request, format_, {format_.request_id_header: request_id}, ask, fault, call)
        try:
            if refusal:
                return _error(exchange, refusal.status, str(refusal.status), str(refusal))
            return await self._answer(exchange, text, arrived)
        except (asyncio.CancelledError, ConnectionResetError):
            call.disconnected = True
            raise
        finally:
            self.calls.end(call)

    def _understand(
        self, provider: Provider, format_: Format, request: web.Request, body: bytes
    ) -> tuple[Ask, Fault | None, str, _RefusedError | None]:
        ask, fault, text = Ask("", stream=False, messages=()), None, ""
        try:
            ask = _ask(format_, request, body)
            fault = self.faults.choose(provider, ask, request.headers)
            text = text_for(ask)
        except _RefusedError as error:
            return ask, None, "", error
        except (BadRequestError, InvalidInputError) as error:
            return ask, None, "", _RefusedError(400, str(error))
        return ask, fault, text, None

    async def _answer(self, exchange: _Exchange, text: str, arrived: float) -> web.StreamResponse:
        fault = exchange.fault
        if fault and fault.stage == "connection":
            transport.close(exchange.request, reset=True)
            return web.Response()
        answer = _answer_of(exchange.ask, text, fault, exchange.call.request_id)
        format_, ask = exchange.format, exchange.ask
        prepared = format_.frames(ask, answer) if ask.stream else encode(format_.plain(ask, answer))
        await self._wait(fault, arrived)
        if fault and fault.stage == "error":
            return _fail(exchange, fault)
        exchange.call.status = 200
        if fault and fault.kind == "malformed_body":
            content_type = transport.STREAM_TYPE if ask.stream else transport.JSON_TYPE
            return transport.whole(NOT_JSON, exchange.headers, content_type=content_type)
        return await self._send(exchange, answer, prepared)

    async def _send(self, exchange: _Exchange, answer: Answer, prepared: Frames | bytes) -> web.StreamResponse:
        fault, call = exchange.fault, exchange.call
        if isinstance(prepared, Frames):
            pause = fault.seconds if fault and fault.kind == "slow_stream" else self.pace.chunk_latency_seconds
            outgoing = transport.Outgoing(prepared, answer.completion_tokens, pause)
            return await transport.stream(exchange.request, exchange.headers, outgoing, fault, call)
        if fault and fault.kind in ("hang_stream", "drop_stream"):
            return await transport.half(exchange.request, prepared, exchange.headers, fault)
        call.completion_tokens = answer.completion_tokens
        return transport.whole(prepared, exchange.headers)

    async def _wait(self, fault: Fault | None, arrived: float) -> None:
        wait = self.pace.latency_seconds
        if self.pace.jitter_seconds:
            wait += self._chance.uniform(0, self.pace.jitter_seconds)
        if fault and fault.stage == "delay":
            wait += fault.seconds
        loop = asyncio.get_running_loop()
        if (remaining := arrived + wait - loop.time()) > 0:
            await asyncio.sleep(max(0, remaining - TICK_SECONDS))
            # For the rest nothing else is answered.  Whoever is due then was due by now; whoever comes then is late by
            # less than a tick, which shows only at many hundreds of calls a second.
            time.sleep(max(0, arrived + wait - loop.time()))  # noqa: ASYNC251


def _ask(format_: Format, request: web.Request, body: bytes) -> Ask:
    if not format_.key(request.headers):
        raise _RefusedError(401, "No API key was sent; the sandbox takes any that is not empty.")
    try:
        return format_.parse(json.loads(body), request.match_info.get("call", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a shape that no client library sends
        raise BadRequestError(f"The body is not a request that can be read: {type(error).__name__}.") from error


def _answer_of(ask: Ask, text: str, fault: Fault | None, request_id: str) -> Answer:
    finish: Finish = "stop"
    if fault:
        text, finish = _spoiled(ask, text, fault)
    if ask.max_tokens and tokens(len(text)) > ask.max_tokens:
        text, finish = text[: ask.max_tokens * CHARACTERS_PER_TOKEN], "length"
    return Answer(request_id.removeprefix("req_"), text, finish, ask.prompt_tokens, tokens(len(text)), int(time.time()))


def _spoiled(ask: Ask, text: str, fault: Fault) -> tuple[str, Finish]:
    if fault.kind == "content_block":
        return "", "blocked"
    if fault.kind == "malformed_json" or (fault.kind == "truncate" and not ask.stream):
        return text[: len(text) // 2], "stop"
    if fault.kind == "invalid_schema":
        return '{"unexpected": "this does not fit the schema"}', "stop"
    return text, "stop"


def _fail(exchange: _Exchange, fault: Fault) -> web.Response:
    message = KINDS[fault.kind][2].partition(";")[0].capitalize() + " (a fault of the sandbox)"
    if fault.kind == "context_length":
        message = CONTEXT_ERRORS[exchange.call.provider]
    status = fault.status
    if fault.kind == "401":
        status, message = KEY_REFUSALS.get(exchange.call.provider, (status, message))
    if fault.argument is not None:
        exchange.headers["Retry-After"] = f"{fault.argument:g}"
    return _error(exchange, status, fault.kind, message)


def _error(exchange: _Exchange, status: int, kind: str, message: str) -> web.Response:
    exchange.call.status = status
    body = exchange.format.error(status, kind, message, exchange.call.request_id)
    return transport.whole(encode(body), exchange.headers, status=status)
