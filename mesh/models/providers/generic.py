"""Any other provider that LiteLLM knows, and servers at an address of their own: nothing special is asked of them."""

from typing import Any

from mesh.models.calls import ModelCall
from mesh.models.providers._base import Access, common


def arguments(call: ModelCall, access: Access) -> dict[str, Any]:
    """As any call.

    LiteLLM prices each call for its own log, and for that asks an Ollama server about a model that its price map does
    not know: a request that blocks the loop of all calls.  With prices given it does not ask.  What the ledger has is
    computed by the catalogue; for a model without a price these are zero.
    """
    model = call.model
    if model.priced and not model.own_prices:
        return common(call, access)
    prompt, completion = (
        float(model.price_usd(prompt_tokens=prompt, completion_tokens=1 - prompt)) for prompt in (1, 0)
    )
    return common(call, access) | {"input_cost_per_token": prompt, "output_cost_per_token": completion}
