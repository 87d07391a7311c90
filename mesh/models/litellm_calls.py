"""The translator: one `ModelCall` into one LiteLLM call, on one asyncio loop beside all threads.

gateway -> here -> provider.  The only module that imports LiteLLM, and only when it is first needed: 3 s of CPU and
170 MB.  No retry, no fallback, no router: those are the gateway's.
"""

import asyncio
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from threading import Thread
from typing import Any

import structlog

from mesh.errors import ModelCallError
from mesh.ids import new_id
from mesh.models import embedding_calls, streaming
from mesh.models.call_loop import CallLoop
from mesh.models.calls import ModelCall, RawReply, Usage
from mesh.models.catalogue import EmbeddingModel, Model
from mesh.models.failures import classify
from mesh.models.providers import Access, access_to, profile_of

log = structlog.get_logger(__name__)

# LiteLLM computes with floats; prices are multiples of 1e-12 US dollars at the finest.
_COST_QUANTUM = Decimal("1e-12")

# Providers that LiteLLM calls with its own HTTP client; the others' are libraries, which send nothing twice.
_OWN_CLIENT = frozenset({"anthropic", "gemini", "groq"})

_GREETING = ({"role": "user", "content": "Hello"},)
_ANY = {"name": "any", "schema": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}}


def load_litellm() -> Any:  # noqa: ANN401  # a module without types worth their name
    """LiteLLM, set up to keep to itself: no network, no `.env`, no work of its own on what it carries."""
    os.environ |= {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_MODE": "PRODUCTION",
    }
    # Its warnings come with every call (Gemini 3's about `temperature`, say); failures reach us as exceptions.
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    with _no_collections():
        import litellm  # noqa: PLC0415  # heavy; the variables above must be set before

    # Other switches were tried (aiohttp's trust_env, token counter, caching transform, `no-log`): of the 2 to 3 ms of
    # CPU a call none saves more than the 20% by which runs differ.
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.disable_streaming_logging = True
    litellm.drop_params = True
    litellm.telemetry = False
    # What it notes on each reply for its proxy, the cost first of all: a seventh of its CPU, while a step waits.
    litellm.utils.update_response_metadata = _nothing  # type: ignore[attr-defined]  # it is there
    # It asks these servers about each model, and not at the model's address.
    for servers in (import_module("litellm.llms.ollama.common_utils").OllamaModelInfo, litellm.LemonadeChatConfig):
        servers.get_model_info = _nothing  # type: ignore[method-assign]  # nobody is asked
    # It reads a model's entry of the price map six times a call, and makes the same of it: a tenth of its CPU.
    look_up = _remembering(litellm.utils.get_model_info_helper)
    litellm.utils.get_model_info_helper = litellm.main.get_model_info_helper = look_up  # type: ignore[assignment, attr-defined]
    # For embeddings `max_retries=0` counts as not given, and this many are made.
    litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]  # it is there
    return litellm


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without looking for garbage, of which imports make little: a quarter of the CPU that LiteLLM's takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _remembering(look_up: Callable[..., Mapping[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`look_up`, once for each question; whoever asks may change the answer, which is theirs alone."""
    known = lru_cache(maxsize=1024)(look_up)
    return lambda *args, **options: dict(known(*args, **options))


def _nothing(*_: object, **__: object) -> None:
    """Stands for what is left out."""


class LiteLLMCalls:
    """All model calls of this process, on one loop of their own (a thread that lives as long as the process)."""

    def __init__(self, access: Mapping[str, Access]) -> None:
        self._access = access
        self._litellm = load_litellm()
        self._client = import_module("mesh.models.one_request").CLIENT
        # Within a call of its own LiteLLM keeps no log, which nobody would read: a quarter of its CPU.
        self._within = import_module("litellm._internal_context").is_internal_call
        self._loop = CallLoop()
        Thread(target=self._loop.run_forever, name="model-calls", daemon=True).start()

    def start(self, call: ModelCall) -> "Future[RawReply]":
        """Begin the call; see `mesh.models.calls.Translator`."""
        return asyncio.run_coroutine_threadsafe(self._run(call), self._loop)

    def warm_up(self, models: Iterable[Model]) -> None:
        """Load what LiteLLM would load within the first calls of `models`; nothing leaves the process.

        That is 0.2 s (Anthropic, Gemini, Groq) to 0.6 s (OpenAI) of CPU, twice that without compiled bytecode, taken
        from the first step of a fresh worker.  A model that cannot be called says so when it is called.
        """
        import_module("openai.resources")
        _ = self._litellm.encoding  # the tokenizer, from a file in the package
        reachable = {model.provider: model for model in models if access_to(model, self._access)}
        calls = [ModelCall(new_id("call"), None, model, _GREETING, _ANY, 1, 0, None, 1) for model in reachable.values()]
        wait([asyncio.run_coroutine_threadsafe(self._mock(call), self._loop) for call in calls])

    async def _mock(self, call: ModelCall) -> None:
        self._within.set(True)
        await self._litellm.acompletion(**self._arguments(call), mock_response="{}")

    async def _run(self, call: ModelCall) -> RawReply:
        self._within.set(True)
        await self._loop.turn()
        try:
            # The library's own timeouts bound single reads, and for Gemini nothing at all.
            async with asyncio.timeout(call.timeout_seconds):
                if isinstance(call.model, EmbeddingModel):
                    return await self._embed(call)
                return await (self._ask(call) if call.on_text is None else self._stream(call, call.on_text))
        except (asyncio.CancelledError, ModelCallError):
            raise
        except Exception as error:  # whatever the library raises is one failed call, classified
            raise classify(error, call.model.provider) from error

    async def _ask(self, call: ModelCall) -> RawReply:
        response = await self._litellm.acompletion(**self._arguments(call))
        choice = response.choices[0]
        return self._reply(call, choice.message.content, choice.finish_reason, response.usage)

    async def _stream(self, call: ModelCall, on_text: Callable[[str], None]) -> RawReply:
        stream = await self._litellm.acompletion(
            **self._arguments(call), stream=True, stream_options={"include_usage": True}
        )
        whole = await streaming.read(stream, on_text, provider=call.model.provider)
        return self._reply(call, whole.text, whole.finish_reason, whole.usage)

    async def _embed(self, call: ModelCall) -> RawReply:
        response = await self._litellm.aembedding(**embedding_calls.arguments(call, self._access_for(call)))
        return embedding_calls.reply_of(call, response)

    def _access_for(self, call: ModelCall) -> Access:
        access = access_to(call.model, self._access)
        if access is None:
            raise ModelCallError("not_authorized", f"The provider of {call.model.name} is not configured.")
        return access

    def _arguments(self, call: ModelCall) -> dict[str, Any]:
        access = self._access_for(call)
        own = {"client": self._client} if call.model.provider in _OWN_CLIENT else {}
        return profile_of(call.model)(call, access) | own

    def _reply(self, call: ModelCall, text: str | None, finish_reason: str, usage: Any) -> RawReply:  # noqa: ANN401  # LiteLLM's
        if finish_reason == "content_filter" or text is None:
            raise ModelCallError("content_blocked", "The provider's content filter withheld the reply.", may_cost=True)
        if not (usage and usage.prompt_tokens):  # no prompt is empty, so nothing was told
            return _estimated(call, text, finish_reason)
        cost_usd = self._cost(call, usage) if call.model.priced else None
        if call.model.priced and cost_usd is None:  # such a reply is neither thrown away nor free
            return RawReply(text, _usage(usage), call.worst_case_usd, finish_reason, estimated=True)
        return RawReply(text, _usage(usage), cost_usd, finish_reason)

    def _cost(self, call: ModelCall, usage: Any) -> Decimal | None:  # noqa: ANN401  # LiteLLM's
        """Of a model with prices; None: LiteLLM cannot compute it."""
        if call.model.own_prices:  # LiteLLM does not know them
            return call.model.price_usd(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        provider, _, name = call.model.litellm.partition("/")
        try:
            parts = self._litellm.cost_per_token(model=name, custom_llm_provider=provider, usage_object=usage)
        except Exception:  # LiteLLM raises whatever it meets, a bare Exception too
            log.exception("call_not_priced", model=call.model.name)
            return None
        return sum((Decimal(repr(part)) for part in parts), Decimal(0)).quantize(_COST_QUANTUM).normalize()


def _usage(usage: Any) -> Usage:  # noqa: ANN401  # LiteLLM's
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=(prompt.cached_tokens or 0) if prompt else 0,
        reasoning_tokens=(completion.reasoning_tokens or 0) if completion else 0,
    )


def _estimated(call: ModelCall, text: str, finish_reason: str) -> RawReply:
    """Of a server that does not tell: no tokenizer makes more tokens of a text than it has bytes."""
    usage = Usage(call.prompt_bytes, min(call.max_tokens, len(text.encode())))
    cost_usd = call.cut_off_usd(len(text.encode())) if call.model.priced else None
    return RawReply(text, usage, cost_usd, finish_reason, estimated=True)
