"""How an embedding model is called, and what its answer is worth: all of them in OpenAI's format.

litellm_calls -> here.  Gemini offers that format beside its own, which LiteLLM would use: there a text such as
`files/x` or `gs://x` makes LiteLLM fetch a file with the key, a broken connection is tried again (two requests, one row
of the ledger), and nobody says what was used.
"""

import math
from typing import Any

from mesh.db.vectors import DIMENSIONS
from mesh.errors import ModelCallError
from mesh.models.calls import ModelCall, RawReply, Usage
from mesh.models.catalogue import EmbeddingModel
from mesh.models.providers import Access

GEMINI = "https://generativelanguage.googleapis.com/v1beta"


def arguments(call: ModelCall, access: Access) -> dict[str, Any]:
    """What `aembedding` is given."""
    model = call.model
    base = access.api_base
    if model.provider == "gemini" and not model.api_base:
        base = f"{base or GEMINI}/openai"
    given = {
        "model": f"openai/{model.litellm.partition('/')[2]}",
        "input": [message["content"] for message in call.messages],
        "api_key": access.api_key,
        "api_base": base,
        "max_retries": 0,
        "timeout": call.timeout_seconds,
        "extra_headers": {"X-Mesh-Call": call.call_id},
    }
    if isinstance(model, EmbeddingModel) and model.shortens:
        # LiteLLM knows only OpenAI's own models to shorten, and drops it silently with others.
        given |= {"dimensions": DIMENSIONS, "allowed_openai_params": ["dimensions"]}
    return given


def reply_of(call: ModelCall, response: Any) -> RawReply:  # noqa: ANN401  # LiteLLM's
    """The vectors in the order of the texts, and their exact cost: a plain price for each token, if there is any."""
    in_order = sorted(response.data or (), key=lambda one: one.get("index") or 0)
    vectors = [list(map(float, one["embedding"])) for one in in_order]
    told = bool(response.usage and response.usage.prompt_tokens)
    prompt_tokens = response.usage.prompt_tokens if told else call.prompt_bytes
    cost_usd = call.model.price_usd(prompt_tokens=prompt_tokens, completion_tokens=0) if call.model.priced else None
    return RawReply("", Usage(prompt_tokens), cost_usd, estimated=not told, vectors=vectors)


def unit_vectors(call: ModelCall, raw: RawReply) -> list[list[float]]:
    """The vectors of `raw` at unit length, as which not every provider sends shortened ones.

    Raises:
        ModelCallError: they are not one for each text, or not as long as the ones that are kept here.
    """
    wrong = sorted({len(vector) for vector in raw.vectors} - {DIMENSIONS})
    if wrong:
        detail = f"{call.model.name} makes vectors of {wrong[0]} numbers; {DIMENSIONS} are needed."
        raise ModelCallError("wrong_dimensions", detail, may_cost=True)
    lengths = [math.hypot(*vector) for vector in raw.vectors]
    if len(lengths) != len(call.messages) or not all(math.isfinite(length) and length for length in lengths):
        raise ModelCallError("malformed_reply", "The provider's vectors could not be used.", may_cost=True)
    return [[value / length for value in vector] for vector, length in zip(raw.vectors, lengths, strict=True)]
