"""How an answer goes over the wire: whole, in chunks, or broken in one of the ways that faults ask for."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from mesh.sandbox.calls import Call
from mesh.sandbox.exchange import Frames
from mesh.sandbox.faults import Fault

STREAM_TYPE = "text/event-stream"
JSON_TYPE = "application/json"
CUTS = frozenset({"hang_stream", "drop_stream", "truncate"})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: closing sends RST instead of FIN


def whole(body: bytes, headers: dict[str, str], *, status: int = 200, content_type: str = JSON_TYPE) -> web.Response:
    """A complete answer."""
    return web.Response(body=body, status=status, headers=headers, content_type=content_type)


async def half(request: web.Request, body: bytes, headers: dict[str, str], fault: Fault) -> web.StreamResponse:
    """The first half of a plain body whose full length was promised; then silence, or the end of the connection."""
    response = web.StreamResponse(headers={**headers, "Content-Type": JSON_TYPE, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if fault.kind == "hang_stream":
        await asyncio.sleep(fault.seconds)
        await response.write(body[len(body) // 2 :])
    else:
        close(request)
    return response


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A streamed answer, what it counts, and the pause after each chunk; without a pause all leaves in one write."""

    frames: Frames
    completion_tokens: int
    pause_seconds: float


async def stream(
    request: web.Request, headers: dict[str, str], outgoing: Outgoing, fault: Fault | None, call: Call
) -> web.StreamResponse:
    """Send a stream. `call.completion_tokens` grows with what is sent, so that a stream cut short counts its part."""
    response = web.StreamResponse(headers={**headers, "Content-Type": STREAM_TYPE, "Cache-Control": "no-cache"})
    await response.prepare(request)
    head, deltas, tail = outgoing.frames.head, outgoing.frames.deltas, outgoing.frames.tail
    kind = fault.kind if fault else ""
    end = len(deltas) // 2 if kind in CUTS else len(deltas)
    await _write(response, outgoing, [*head, *deltas[:end]], call)
    if fault and kind == "hang_stream":
        await asyncio.sleep(fault.seconds)
        await _write(response, outgoing, deltas[end:], call)
    if kind == "drop_stream":
        close(request)
    elif kind != "truncate":
        await response.write(b"".join(tail))
        call.completion_tokens = outgoing.completion_tokens
    return response


async def _write(response: web.StreamResponse, outgoing: Outgoing, frames: Sequence[bytes], call: Call) -> None:
    share = outgoing.completion_tokens / max(1, len(outgoing.frames.deltas))
    before = call.completion_tokens
    for sent, frame in enumerate(frames if outgoing.pause_seconds else [], 1):
        await response.write(frame)
        call.completion_tokens = before + int(share * sent)
        await asyncio.sleep(outgoing.pause_seconds)
    if not outgoing.pause_seconds and frames:
        await response.write(b"".join(frames))
    call.completion_tokens = before + int(share * len(frames))


def close(request: web.Request, *, reset: bool = False) -> None:
    """Close the connection under the answer; with `reset` the other side gets an RST."""
    transport = request.transport
    if transport is None:
        return  # the client was faster
    if reset:
        plug: socket.socket = transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    else:
        transport.close()
