"""Providers: which ones this process can reach, and how each one's calls differ, one module each.

litellm_calls -> here.  A new provider is one new file here that defines `arguments`, and rows in the catalogue; one
without a file is called as `generic` does it.  Nothing here imports LiteLLM: the API asks what is configured.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from mesh.config import PROVIDERS, Settings
from mesh.models.calls import ModelCall
from mesh.models.catalogue import Model
from mesh.models.providers._base import NO_KEY, Access

__all__ = ["Access", "Profile", "access_to", "configured", "profile_of"]

Profile = Callable[[ModelCall, Access], dict[str, Any]]
"""What is LiteLLM's to be given for a call, as `acompletion` takes it; a profile's module says what is special."""

_modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__) if module.name[0] != "_")
_PROFILES: dict[str, Profile] = {module.__name__.rpartition(".")[2]: module.arguments for module in _modules}


def configured(settings: Settings) -> dict[str, Access]:
    """The providers that have a key; OpenAI also by its address alone, for local servers that need no key."""
    found = {}
    for provider in PROVIDERS:
        key = getattr(settings, f"{provider}_api_key")
        base = getattr(settings, f"{provider}_api_base")
        if key is not None and key.get_secret_value():
            found[provider] = Access(key.get_secret_value(), base)
        elif provider == "openai" and base:
            found[provider] = Access(NO_KEY, base)
    return found


def access_to(model: Model, access: Mapping[str, Access]) -> Access | None:
    """How to reach `model`, given the providers that are configured; None: it cannot be reached.

    A provider's key is never sent to an address of the model's own, which may be anybody's.
    """
    return Access(NO_KEY, model.api_base) if model.api_base else access.get(model.provider)


def profile_of(model: Model) -> Profile:
    """How calls of `model` are made: its provider's way, unless it is served from an address of its own."""
    return _PROFILES["generic"] if model.api_base else _PROFILES.get(model.provider, _PROFILES["generic"])
