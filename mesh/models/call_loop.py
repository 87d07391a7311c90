"""The loop of all model calls, which prepares a call where it stands.

litellm_calls -> here.  LiteLLM prepares each call in a thread of the loop's executor.  Handing it over and back costs
0.3 ms of CPU, more than a tenth of the whole call, and time while other threads want the interpreter's lock.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


# Providers that LiteLLM calls without waiting in between.  With others it may send requests as it prepares, or the very
# call: oobabooga's, say.
_NEVER_WAIT = ("anthropic/", "gemini/", "groq/", "openai/")


class CallLoop(asyncio.SelectorEventLoop):
    """A loop without threads for what only computes; for the rest, the look-up of a name say, it has them."""

    def __init__(self) -> None:
        super().__init__()
        self._preparing = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until the call before has been sent; else that one would wait for this one's preparation as well.

        The replies of a plan's steps then come one after the other, as they can be stored.
        """
        await self._preparing.acquire()
        self.call_soon(self.call_soon, self._preparing.release)  # what is prepared goes out in the loop's next round

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """See asyncio."""
        if not _prepares_text(func):
            return super().run_in_executor(executor, func, *args)
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # the caller's, as from a thread
            done.set_exception(error)
        return done


def _prepares_text(func: Callable[..., Any]) -> bool:
    """Whether `func` is LiteLLM's preparation of a call that sends nothing; images it would download first."""
    match func:
        case partial(args=(partial(keywords={"acompletion": True, "model": str(model), "messages": messages}),)):
            if not model.startswith(_NEVER_WAIT):
                return False
            contents = [message["content"] for message in messages]
            parts = [part for content in contents if not isinstance(content, str) for part in content]
            return all(part["type"] == "text" for part in parts)
    return False
