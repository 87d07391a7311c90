"""Provider profiles over real HTTP: what arrives at each provider, and at models with an address of their own."""

import json
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from mesh.models.calls import Messages, ModelCall
from mesh.models.catalogue import Model
from mesh.models.litellm_calls import LiteLLMCalls
from tests.builders import MODELS
from tests.integration.models.conftest import NAMES, WITH_LITELLM, call_of, reach
from tests.integration.models.recorder import recorder
from tests.integration.models.test_litellm_calls import ANSWERS, price
from tests.sandbox import Sandbox

pytestmark = WITH_LITELLM

providers = pytest.mark.parametrize("provider", NAMES)

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
QUESTION = {"type": "text", "text": "What is it?"}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
SEEN: Messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": [QUESTION, IMAGE]})


def arrived(call: ModelCall) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of the one request that `call` comes to at its provider."""
    provider = call.model.provider
    with recorder() as provided:
        provided.answer = ANSWERS[provider]
        reach({provider: provided.url}).start(call).result()
        [request] = provided.requests
    return request


def test_anthropic_is_told_to_cache_the_system_message_and_nothing_else() -> None:
    _, body = arrived(call_of("anthropic"))
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert json.dumps(body).count("cache_control") == 1


@pytest.mark.parametrize("provider", ["openai", "gemini", "groq"])
def test_no_other_provider_hears_of_caching(provider: str) -> None:
    _, body = arrived(call_of(provider))
    assert "cache" not in json.dumps(body)


@pytest.mark.parametrize(("name", "limit"), [("gpt-4o", "max_tokens"), ("gpt-6-sol", "max_completion_tokens")])
def test_gpt_answers_strictly_by_the_schema_within_the_limit_in_the_models_own_word(name: str, limit: str) -> None:
    call = replace(call_of("openai"), model=MODELS.resolve(name))
    lax = {**(call.schema or {}), "strict": False}
    _, body = arrived(replace(call, schema=lax))
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body[limit] == 4000
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1


@pytest.mark.parametrize("name", ["claude-sonnet-5-5", "claude-haiku-5-5"])
def test_claude_is_not_given_sampling_parameters_that_it_refuses(name: str) -> None:
    _, body = arrived(replace(call_of("anthropic"), model=MODELS.resolve(name), temperature=0.5, top_p=0.9))
    assert not {"temperature", "top_p"} & body.keys()


def test_gemini_sees_images() -> None:
    _, body = arrived(call_of("gemini", messages=SEEN))
    [content] = body["contents"]
    [image] = [part["inline_data"] for part in content["parts"] if "inline_data" in part]
    assert image == {"mime_type": "image/png", "data": PIXEL}


def test_claude_sees_images() -> None:
    _, body = arrived(call_of("anthropic", messages=SEEN))
    [message] = body["messages"]
    [image] = [part["source"] for part in message["content"] if part["type"] == "image"]
    assert image == {"type": "base64", "media_type": "image/png", "data": PIXEL}


def test_gpt_sees_images() -> None:
    _, body = arrived(call_of("openai", messages=SEEN))
    [sent] = [part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url"]
    assert sent == f"data:image/png;base64,{PIXEL}"


@providers
def test_plain_text_is_asked_for_without_a_schema(provider: str) -> None:
    _, body = arrived(replace(call_of(provider), schema=None))
    assert "schema" not in json.dumps(body)
    assert "response_format" not in body


@providers
@pytest.mark.parametrize("schema", [True, False])
def test_every_profile_brings_a_reply(provider: str, schema: bool, calls: LiteLLMCalls, sandbox: Sandbox) -> None:
    call = call_of(provider)
    reply = calls.start(call if schema else replace(call, schema=None)).result()
    assert reply.text
    assert [sent["call"] for sent in sandbox.calls(provider=provider, status=200)] == [call.call_id]


OLLAMAS = {
    "model": "llama",
    "created_at": "2026-01-01T00:00:00Z",
    "message": {"role": "assistant", "content": "{}"},
    "response": "{}",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 1000,
    "eval_count": 200,
}


def test_a_reply_whose_price_cannot_be_computed_is_charged_its_worst_case() -> None:
    """LiteLLM knows no prices of this server's; the reply is good, and not free."""
    with recorder() as provided:
        provided.answer = ANSWERS["openai"]
        facts = MODELS.resolve("gpt-4o").facts
        call = replace(
            call_of("openai"), model=Model("ours", "hosted_vllm/ours", "hosted_vllm", "LOW", (), facts, provided.url)
        )
        reply = reach({}).start(call).result()
    assert (reply.text, reply.usage.prompt_tokens) == ("{}", 1001)
    assert (reply.cost_usd, reply.estimated) == (call.worst_case_usd, True)


PRICES = {"input_cost_per_token": Decimal("0.0000015"), "output_cost_per_token": Decimal("0.000002")}


@pytest.mark.filterwarnings("ignore:Items '.*' on TypedDict class '.*' are using the `ReadOnly` qualifier")
@pytest.mark.parametrize(
    ("litellm", "path", "answer", "cost"),
    [
        ("openai/ours", "/v1", ANSWERS["openai"], "0.0019075"),
        ("hosted_vllm/ours", "/v1", ANSWERS["openai"], "0.0019075"),
        ("ollama/ours", "", OLLAMAS, "0.0019"),
        ("ollama_chat/ours", "", OLLAMAS, "0.0019"),
    ],
)
def test_a_model_with_an_address_of_its_own_is_called_there_and_priced_by_its_entry(
    litellm: str, path: str, answer: object, cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's key is known, and stays here.  Each call is one request: LiteLLM would ask Ollama about its models."""
    with recorder() as provided:
        monkeypatch.setenv("OLLAMA_API_BASE", provided.url)  # LiteLLM would ask there
        provided.answer = answer
        provider = litellm.partition("/")[0]
        ours = Model("ours", litellm, provider, "LOW", (), PRICES, provided.url + path, own_prices=True)
        calls = reach({"openai": "http://127.0.0.1:1"})
        replies = [calls.start(replace(call_of("openai"), model=ours)).result() for _ in range(3)]
        requests = provided.requests
    assert [body.get("model") for _, body in requests] == ["ours"] * 3
    for headers, body in requests:
        assert "sandbox" not in json.dumps(headers)
        assert headers["x-mesh-call"]
        assert "mesh_reply" in json.dumps(body) or body["format"]["properties"]
    assert [(reply.text, reply.cost_usd) for reply in replies] == [("{}", Decimal(cost))] * 3


@pytest.mark.parametrize("own", [{}, PRICES], ids=["no_price", "own_price"])
def test_the_price_of_a_model_elsewhere_is_not_taken_for_that_of_its_namesake(own: dict[str, Decimal]) -> None:
    """A proxy of one's own may serve models by the provider's names."""
    with recorder() as provided:
        provided.answer = ANSWERS["openai"]
        address = f"{provided.url}/v1"
        calls = reach({"openai": address})
        import litellm  # noqa: PLC0415  # loaded by `reach`

        known = deepcopy(litellm.model_cost)
        real = replace(call_of("openai"), model=MODELS.resolve("gpt-4o-mini"))
        elsewhere = Model("ours", real.model.litellm, "openai", "LOW", (), own, address, own_prices=bool(own))
        calls.start(replace(real, model=elsewhere)).result()
        reply = calls.start(real).result()
    assert reply.cost_usd == price(real.model, reply.usage)
    assert litellm.model_cost == known, "what is known of it may be looked up before or after"
