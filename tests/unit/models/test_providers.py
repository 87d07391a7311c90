"""Providers: which of them this process can reach."""

from pydantic import SecretStr

from mesh.config import PROVIDERS, Settings
from mesh.models.providers import Access, configured

# The environment of whoever runs the tests must not matter.
NONE = {f"{name}_{what}": None for name in PROVIDERS for what in ("api_key", "api_base")}


def settings(**given: SecretStr | str) -> Settings:
    return Settings(**NONE | given)  # type: ignore[arg-type]


def test_a_provider_is_configured_by_its_key_and_keeps_its_address() -> None:
    found = configured(settings(groq_api_key=SecretStr("k"), groq_api_base="http://x", gemini_api_key=SecretStr("g")))
    assert found == {"gemini": Access("g", None), "groq": Access("k", "http://x")}


def test_an_empty_key_and_an_address_alone_configure_nothing() -> None:
    assert configured(settings(anthropic_api_key=SecretStr(""), gemini_api_base="http://x")) == {}


def test_a_local_server_in_openais_format_needs_no_key() -> None:
    assert list(configured(settings(openai_api_base="http://localhost:11434/v1"))) == ["openai"]
