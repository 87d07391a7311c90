"""LiteLLM as a worker has it, in front of the sandbox."""

import pytest

from mesh.agents import schemas
from mesh.ids import new_id
from mesh.models.calls import Messages, ModelCall
from mesh.models.litellm_calls import LiteLLMCalls
from mesh.models.providers import Access
from tests.builders import MODELS
from tests.sandbox import Sandbox, sandbox, sandbox_process

__all__ = ["sandbox", "sandbox_process"]

NAMES = {
    "anthropic": "claude-sonnet-5-5",
    "openai": "gpt-4o",
    "gemini": "gemini-3.8-flash",
    "groq": "gpt-oss-120b",
}
PATHS = {"anthropic": "", "openai": "/v1", "gemini": "/v1beta", "groq": "/openai/v1"}
MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write a short text."})

# LiteLLM's own types make pydantic warn when they are first used; and its first call in a process takes seconds.
WITH_LITELLM = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier"),
]


def call_of(provider: str, *, seconds: float = 20, messages: Messages = MESSAGES) -> ModelCall:
    model = MODELS.resolve(NAMES[provider])
    return ModelCall(new_id("call"), None, model, messages, schemas.reply_schema(), 4000, 0.5, None, seconds)


def reach(bases: dict[str, str]) -> LiteLLMCalls:
    """A translator for providers at these addresses."""
    return LiteLLMCalls({provider: Access("sandbox", base) for provider, base in bases.items()})


def sandbox_bases(running: Sandbox) -> dict[str, str]:
    env = running.env
    return {provider: env[f"{provider.upper()}_API_BASE"] for provider in NAMES}


@pytest.fixture(scope="session")
def calls(sandbox_process: Sandbox) -> LiteLLMCalls:
    """The sandbox's four providers, by way of LiteLLM."""
    return reach(sandbox_bases(sandbox_process))
