"""OpenAI: structured output is strict, so that a reply cannot leave its schema.

LiteLLM says `max_completion_tokens` instead of `max_tokens` to the models that want it.
"""

from typing import Any

from mesh.models.calls import ModelCall
from mesh.models.providers._base import Access, common


def arguments(call: ModelCall, access: Access) -> dict[str, Any]:
    """As any call, with the schema strict."""
    arguments = common(call, access)
    if call.schema is not None:
        arguments["response_format"] = {"type": "json_schema", "json_schema": {**call.schema, "strict": True}}
    return arguments
