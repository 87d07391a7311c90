"""Providers: which ones this process can reach, and how."""

from dataclasses import dataclass

from mesh.config import PROVIDERS, Settings


@dataclass(frozen=True)
class Access:
    """How to reach a provider."""

    api_key: str
    api_base: str | None


def configured(settings: Settings) -> dict[str, Access]:
    """The providers that have a key; OpenAI also by its address alone, for local servers that need no key."""
    found = {}
    for provider in PROVIDERS:
        key = getattr(settings, f"{provider}_api_key")
        base = getattr(settings, f"{provider}_api_base")
        if key is not None and key.get_secret_value():
            found[provider] = Access(key.get_secret_value(), base)
        elif provider == "openai" and base:
            found[provider] = Access("none", base)
    return found
