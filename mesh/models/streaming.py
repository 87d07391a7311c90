"""Reading a streamed reply: its pieces as they come, and at the end whether it is one.

litellm_calls -> here -> LiteLLM's stream.  A stream that was cut off looks to LiteLLM like one that has ended, with a
finish and a usage that it makes up; what came over the wire tells them apart.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mesh.errors import ModelCallError
from mesh.models.failures import classify

_GEMINIS_FINISH = '"finishReason"'


@dataclass(slots=True)
class Streamed:
    """A reply that came whole; `usage` is LiteLLM's, or None when the provider sent none."""

    text: str
    finish_reason: str
    usage: Any


@dataclass(slots=True)
class _Seen:
    """What has come of a stream so far."""

    pieces: list[str]
    finish_reason: str = "stop"
    usage: Any = None


async def read(stream: Any, on_text: Callable[[str], None], *, provider: str) -> Streamed:  # noqa: ANN401  # LiteLLM's
    """Hand each piece of text to `on_text`, and answer the whole.

    Raises:
        ModelCallError: it failed, or broke off.
    """
    seen = _Seen([])
    witness = _Witness(stream) if provider == "gemini" else None
    async with aclosing(stream):  # a call that is cancelled closes its connection here, not when garbage is collected
        try:
            await _read(stream, on_text, seen)
        except Exception as error:
            raise _failure(classify(error, provider), seen) from error
    finished = witness.finished if witness else stream.received_finish_reason is not None
    if not finished:
        raise ModelCallError("malformed_reply", "The provider's stream broke off.", may_cost=True)
    told = any(getattr(chunk, "usage", None) is not None for chunk in stream.chunks)
    return Streamed("".join(seen.pieces), seen.finish_reason, seen.usage if told else None)


async def _read(stream: Any, on_text: Callable[[str], None], seen: _Seen) -> None:  # noqa: ANN401  # LiteLLM's
    async for chunk in stream:
        choice = chunk.choices[0] if chunk.choices else None
        if choice is not None and choice.delta.content:
            seen.pieces.append(choice.delta.content)
            on_text(choice.delta.content)
        if choice is not None and choice.finish_reason:
            seen.finish_reason = choice.finish_reason
        seen.usage = getattr(chunk, "usage", None) or seen.usage


def _failure(error: ModelCallError, seen: _Seen) -> ModelCallError:
    """Once text has come, whatever goes wrong is a reply that broke off, which is paid for."""
    if not seen.pieces or error.code == "timeout":
        return error
    code = "malformed_reply" if error.code == "connection_failed" else error.code
    return ModelCallError(
        code, str(error), status=error.status, retry_after_seconds=error.retry_after_seconds, may_cost=True
    )


class _Witness:
    """Reads Gemini's lines along: LiteLLM makes a finish of each of its chunks, so that none tells the last one."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  # LiteLLM's
        self.finished = False
        self._call, stream.make_call = stream.make_call, self._call_and_watch

    async def _call_and_watch(self, **client: object) -> Any:  # noqa: ANN401  # LiteLLM's
        """Gemini's request is made when its stream is first read, and LiteLLM reads what this answers."""
        source = await self._call(**client)
        source.streaming_response = self._watched(source.streaming_response)
        return source

    async def _watched(self, lines: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        async with aclosing(lines):
            async for line in lines:
                # Within text, the quotes would be escaped.
                self.finished = self.finished or _GEMINIS_FINISH in line
                yield line
