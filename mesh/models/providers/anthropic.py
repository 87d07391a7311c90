"""Anthropic: the system message is cached, JSON comes by its schema (LiteLLM's `output_format`).

The system message is the same for all calls of an agent, and a prompt read from the cache costs a tenth or less of
the plain price; writing it costs a quarter more, for five minutes at a time.  Prompts below `prompt_cache_min_tokens`
of the price map are not cached, and cost nothing more.
"""

from typing import Any

from mesh.models.calls import ModelCall
from mesh.models.providers._base import Access, common

_CACHED = {"type": "ephemeral"}


def arguments(call: ModelCall, access: Access) -> dict[str, Any]:
    """As any call, with a mark at the end of what is to be cached."""
    return common(call, access) | {"messages": [_marked(message) for message in call.messages]}


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if message["role"] != "system" or not isinstance(content, str) or not content:
        return message
    return {**message, "content": [{"type": "text", "text": content, "cache_control": _CACHED}]}
