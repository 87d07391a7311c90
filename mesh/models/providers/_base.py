"""What the profiles share: how to reach a provider, and what every call has in common."""

from dataclasses import dataclass
from typing import Any

from mesh.models.calls import ModelCall

# Client libraries insist on a key, and servers that need none ignore it.
NO_KEY = "none"


@dataclass(frozen=True)
class Access:
    """How to reach a provider; without `api_base` at its usual address."""

    api_key: str
    api_base: str | None


def common(call: ModelCall, access: Access) -> dict[str, Any]:
    """A call as any provider takes it; what a model does not know LiteLLM drops (`drop_params`)."""
    arguments = {
        "model": call.model.litellm,
        "messages": list(call.messages),
        "max_tokens": call.max_tokens,
        "temperature": call.temperature,
        "top_p": call.top_p,
        "api_key": access.api_key,
        "api_base": access.api_base,
        # Trying again, and elsewhere, is the gateway's.
        "max_retries": 0,
        "timeout": call.timeout_seconds,
        "extra_headers": {"X-Mesh-Call": call.call_id},
    }
    if call.schema is not None:
        arguments["response_format"] = {"type": "json_schema", "json_schema": call.schema}
    return arguments
