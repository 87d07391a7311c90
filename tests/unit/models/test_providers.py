"""Providers: which of them this process can reach, and what is special about calls of each."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from mesh.config import PROVIDERS, Settings
from mesh.models.calls import ModelCall
from mesh.models.catalogue import Model
from mesh.models.providers import Access, access_to, configured, profile_of
from tests.builders import MODELS

# The environment of whoever runs the tests must not matter.
NONE = {f"{name}_{what}": None for name in PROVIDERS for what in ("api_key", "api_base")}


def settings(**given: SecretStr | str) -> Settings:
    return Settings(**NONE | given)  # type: ignore[arg-type]  # fields by name


def test_a_provider_is_configured_by_its_key_and_keeps_its_address() -> None:
    found = configured(settings(groq_api_key=SecretStr("k"), groq_api_base="http://x", gemini_api_key=SecretStr("g")))
    assert found == {"gemini": Access("g", None), "groq": Access("k", "http://x")}


def test_an_empty_key_and_an_address_alone_configure_nothing() -> None:
    assert configured(settings(anthropic_api_key=SecretStr(""), gemini_api_base="http://x")) == {}


def test_a_local_server_in_openais_format_needs_no_key() -> None:
    assert list(configured(settings(openai_api_base="http://localhost:11434/v1"))) == ["openai"]


SYSTEM = {"role": "system", "content": "Be brief."}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
USER = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}
SCHEMA = {"name": "any", "schema": {"type": "object"}}
LLAMA = Model("llama", "ollama/llama", "ollama", "LOW", (), {}, api_base="http://localhost:11434")
KEY = Access("secret", None)

NAMES = ("claude-sonnet-5-5", "gpt-4o", "gemini-3.8-flash", "gpt-oss-120b")


def arguments(model: Model, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # fields of any type
    call = ModelCall("call_1", None, model, (SYSTEM, USER), SCHEMA, 100, 0.5, None, 20)
    return profile_of(model)(replace(call, **changes), KEY)


@pytest.mark.parametrize("model", [*map(MODELS.resolve, NAMES), LLAMA], ids=lambda model: model.name)
def test_every_call_is_made_once_and_known_by_its_ledger_row(model: Model) -> None:
    made = arguments(model)
    assert (made["model"], made["api_key"], made["max_retries"]) == (model.litellm, "secret", 0)
    assert (made["max_tokens"], made["temperature"], made["timeout"]) == (100, 0.5, 20)
    assert made["extra_headers"] == {"X-Mesh-Call": "call_1"}
    assert made["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert made["messages"][1] == USER


@pytest.mark.parametrize("model", [*map(MODELS.resolve, NAMES), LLAMA], ids=lambda model: model.name)
def test_plain_text_is_asked_for_without_a_schema(model: Model) -> None:
    assert "response_format" not in arguments(model, schema=None)


@pytest.mark.parametrize("name", NAMES)
def test_only_anthropic_is_told_to_cache_the_system_message(name: str) -> None:
    [system, _] = arguments(MODELS.resolve(name))["messages"]
    if name.startswith("claude"):
        assert system["content"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    else:
        assert system == SYSTEM
    assert SYSTEM["content"] == "Be brief."


def test_an_empty_system_message_is_not_marked() -> None:
    """Anthropic refuses a cache mark on an empty block."""
    empty = {"role": "system", "content": ""}
    assert arguments(MODELS.resolve("claude-sonnet-5-5"), messages=(empty, USER))["messages"][0] == empty


@pytest.mark.parametrize("name", NAMES)
def test_openai_is_always_strict_and_others_as_the_schema_says(name: str) -> None:
    asked = arguments(MODELS.resolve(name))["response_format"]["json_schema"]
    assert asked.get("strict") is (True if name == "gpt-4o" else None)


def test_a_model_with_an_address_of_its_own_is_called_there_without_anybodys_key() -> None:
    """The address may be anybody's: OpenAI's key does not go there, though the model speaks OpenAI's format."""
    ours = Model("ours", "openai/ours", "openai", "LOW", (), {}, api_base="http://localhost:8000/v1")
    reached = access_to(ours, {"openai": KEY})
    assert reached is not None
    assert (reached.api_base, reached.api_key) == ("http://localhost:8000/v1", "none")
    assert profile_of(ours) is profile_of(LLAMA)


def test_a_model_is_reached_by_its_provider_or_not_at_all() -> None:
    gpt = MODELS.resolve("gpt-4o")
    assert access_to(gpt, {"openai": KEY}) is KEY
    assert access_to(gpt, {"groq": KEY}) is None
