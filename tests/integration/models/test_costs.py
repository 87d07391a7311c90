"""What is reserved for a call is never less than LiteLLM's price for it, whatever it used."""

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from mesh.models import catalogue
from mesh.models.litellm_calls import load_litellm
from tests.builders import MODELS
from tests.integration.models.conftest import WITH_LITELLM

pytestmark = WITH_LITELLM

NAMES = tomllib.loads(Path(catalogue.__file__).with_name("catalogue.toml").read_text("utf-8"))["models"]
DIGITS = Decimal("1e-12")  # finer is the noise of LiteLLM's floats


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt_tokens", [1, 9_000, 250_000])
@pytest.mark.parametrize("details", [{}, {"cached_tokens": 1}, {"cache_creation_tokens": 1}])
def test_no_call_costs_more_than_was_reserved_for_it(name: str, prompt_tokens: int, details: dict[str, int]) -> None:
    """A token has at least a byte; long prompts, and writing them to a cache, have dearer tariffs."""
    litellm, model = load_litellm(), MODELS.resolve(name)
    provider, _, bare = model.litellm.partition("/")
    usage = litellm.Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=4000,
        prompt_tokens_details={kind: share * prompt_tokens for kind, share in details.items()},
        completion_tokens_details={"reasoning_tokens": 3000, "text_tokens": 1000},
        cache_creation_input_tokens=details.get("cache_creation_tokens", 0) * prompt_tokens,
    )
    cost = sum(litellm.cost_per_token(model=bare, custom_llm_provider=provider, usage_object=usage))
    assert 0 < Decimal(cost).quantize(DIGITS) <= model.worst_case_usd(prompt_bytes=prompt_tokens, max_tokens=4000)
