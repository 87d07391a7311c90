"""The sandbox as a real process, and LiteLLM set up as the mesh sets it up."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.sandbox import Sandbox, sandbox, sandbox_process

__all__ = ["sandbox", "sandbox_process"]

MODELS = {
    "anthropic": "anthropic/claude-sonnet-5-5",
    "openai": "openai/gpt-4o",
    "gemini": "gemini/gemini-3.8-flash",
    "groq": "groq/openai/gpt-oss-120b",
}
BEFORE_IMPORT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
}

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Complete = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture(scope="session")
def litellm() -> Any:  # noqa: ANN401  # a module
    os.environ.update(BEFORE_IMPORT)
    import litellm  # noqa: PLC0415  # reads the environment when it is imported

    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.disable_streaming_logging = True
    litellm.drop_params = True
    return litellm


@pytest.fixture(scope="session")
def run(litellm: Any) -> Iterator[Run]:  # noqa: ANN401  # a module
    """Run coroutines on one loop for the session, since LiteLLM keeps its connections with it."""
    with asyncio.Runner() as runner:
        yield runner.run
        runner.run(litellm.close_litellm_async_clients())


@pytest.fixture
def complete(litellm: Any, sandbox: Sandbox) -> Complete:  # noqa: ANN401  # a module
    """Make one call through LiteLLM; keyword arguments go to `acompletion`."""
    env = sandbox.env

    async def call(provider: str, prompt: str = "Write a short text.", **more: Any) -> Any:  # noqa: ANN401  # LiteLLM's
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
        if more.get("stream"):
            more["stream_options"] = {"include_usage": True}
        settings = {
            "api_base": env[f"{provider.upper()}_API_BASE"],
            "api_key": "sandbox",
            "max_retries": 0,
            "max_tokens": 4000,
            "timeout": 10,
        }
        return await litellm.acompletion(more.pop("model", MODELS[provider]), messages, **settings | more)

    return call
