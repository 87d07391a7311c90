"""The catalogue: which names there are, who serves them, what they can do, and what a call can cost at most."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from mesh.errors import ConfigurationError, InvalidInputError
from mesh.models import catalogue
from mesh.models.catalogue_file import Entry, File
from tests.builders import MODELS

SERVED_BY = {  # the names of the specification, and who serves them
    "claude-3-7-sonnet": "claude-sonnet-5-5",
    "gpt-4o": "gpt-4o",
    "gemini-1.5-pro": "gemini-2.5-pro",
    "gemini-2.0": "gemini-3.8-flash",
}


def extended(folder: Path, text: str) -> catalogue.Catalogue:
    file = folder / "models.toml"
    file.write_text(text, "utf-8")
    return catalogue.load(file)


@pytest.mark.parametrize(("name", "serving"), SERVED_BY.items())
def test_every_promised_name_is_served_by_itself_or_its_successor(name: str, serving: str) -> None:
    assert MODELS.resolve(name).name == serving


def test_the_chain_is_claude_then_gpt_then_gemini_then_groq() -> None:
    assert MODELS.chain == ("claude-sonnet-5-5", "gpt-4o", "gemini-3.8-flash", "gpt-oss-120b")
    assert [MODELS.resolve(name).provider for name in MODELS.chain] == ["anthropic", "openai", "gemini", "groq"]


@pytest.mark.parametrize(("alias", "serving"), [("claude-3.7-sonnet", "claude-sonnet-5-5"), ("groq", "gpt-oss-120b")])
def test_an_alias_is_another_name(alias: str, serving: str) -> None:
    assert MODELS.resolve(alias).name == serving


@pytest.mark.parametrize("name", MODELS.chain)
def test_every_model_of_the_chain_has_a_known_price_and_limit(name: str) -> None:
    model = MODELS.resolve(name)
    assert model.priced
    assert model.max_output_tokens
    assert model.worst_case_usd(prompt_bytes=0, max_tokens=1) > 0
    assert model.worst_case_usd(prompt_bytes=1, max_tokens=0) > 0


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(InvalidInputError) as caught:
        MODELS.require("claude-4-sonnet", pointer="/agents/0/model")
    [problem] = caught.value.problems
    assert (problem.pointer, problem.code) == ("/agents/0/model", "unknown_model")
    assert "claude-3-7-sonnet" in problem.detail


def test_a_name_near_to_none_is_answered_with_some_that_exist() -> None:
    with pytest.raises(InvalidInputError) as caught:
        MODELS.require("zzzzzzzz", pointer="/model")
    assert "claude-3-7-sonnet" in caught.value.problems[0].detail


def test_a_users_file_adds_models_and_may_set_the_chain(tmp_path: Path) -> None:
    models = extended(
        tmp_path, 'chain = ["ours"]\n[models.ours]\nlitellm = "openai/our-own-model"\naliases = ["house"]\n'
    )
    ours = models.resolve("house")
    assert (models.chain, ours.provider, ours.litellm) == (("ours",), "openai", "openai/our-own-model")
    assert models.resolve("gpt-4o").name == "gpt-4o"


def test_a_model_without_a_price_is_unpriced_and_not_free(tmp_path: Path) -> None:
    ours = extended(tmp_path, '[models.ours]\nlitellm = "openai/our-own-model"').resolve("ours")
    assert not ours.priced
    assert ours.max_output_tokens is None


def test_a_users_file_replaces_an_entry(tmp_path: Path) -> None:
    models = extended(tmp_path, '[models.gpt-4o]\nlitellm = "openai/gpt-4o-mini"\ntier = "LOW"')
    assert models.resolve("gpt-4o").litellm == "openai/gpt-4o-mini"


def test_a_file_without_a_chain_leaves_it_as_it_is(tmp_path: Path) -> None:
    assert extended(tmp_path, "").chain == MODELS.chain


def test_a_retired_model_is_served_by_its_successors_successor(tmp_path: Path) -> None:
    models = extended(
        tmp_path,
        '[models.old]\nlitellm = "openai/gone-1"\nsuccessor = "older"\n'
        '[models.older]\nlitellm = "openai/gone-2"\nsuccessor = "gpt-4o"\n',
    )
    assert models.resolve("old").name == "gpt-4o"


def test_a_model_that_is_still_there_is_not_replaced_by_its_successor(tmp_path: Path) -> None:
    models = extended(tmp_path, '[models.gpt-4o]\nlitellm = "openai/gpt-4o"\nsuccessor = "gpt-6-sol"')
    assert models.resolve("gpt-4o").name == "gpt-4o"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[models.a]\nlitellm = "x/1"\nsuccessor = "b"\n[models.b]\nlitellm = "x/2"\nsuccessor = "a"', "circle"),
        ('[models.a]\nlitellm = "x/1"\nsuccessor = "a"', "circle"),
        ('[models.a]\nlitellm = "x/1"\naliases = ["c"]\nsuccessor = "c"', "circle"),
        ('[models.a]\nlitellm = "x/1"\nsuccessor = "nobody"', "nobody"),
        ('chain = ["nobody"]', "nobody"),
        ("[models.a]", "litellm"),
        ('[models.a]\nlitellm = "x/1"\nprize = 1', "prize"),
        ('[models.a]\nlitellm = "x/1"\ninput_usd_per_million_tokens = 1', "need each other"),
        ('[models.a]\nlitellm = "x/1"\napi_base = "localhost:11434"', "api_base"),
        ('[models.a]\nlitellm = "x/1"\nconcurrency = 0', "concurrency"),
        ("[limits.openai]\nrequests = 1", "requests"),
        ("chain = [", "cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        extended(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        catalogue.load(tmp_path / "nowhere.toml")


def test_the_worst_case_takes_the_dearest_tariff_of_an_ordinary_call() -> None:
    """Long prompts and writing to the cache cost more than the plain price; batches and priority are never ours."""
    facts = {
        "input_cost_per_token": 1e-6,
        "input_cost_per_token_above_200k_tokens": 2e-6,
        "cache_creation_input_token_cost": 3e-6,
        "input_cost_per_token_priority": 9e-6,
        "output_cost_per_token": 1e-5,
        "output_cost_per_reasoning_token": 2e-5,
        "output_cost_per_token_batches": 9e-5,
    }
    model = catalogue.Model("m", "x/m", "x", "LOW", (), facts)
    assert model.worst_case_usd(prompt_bytes=10, max_tokens=100) == Decimal("0.00203")


LLAMA = """
[models.llama]
litellm = "ollama/a-llama-of-ours"
tier = "LOW"
api_base = "http://localhost:11434"
context_window = 8192
max_output_tokens = 2048
vision = true
function_calling = false
input_usd_per_million_tokens = 0.15
output_usd_per_million_tokens = 2
requests_per_minute = 60
"""


def test_a_users_file_says_what_the_price_map_does_not_know(tmp_path: Path) -> None:
    llama = extended(tmp_path, LLAMA).resolve("llama")
    assert (llama.provider, llama.api_base) == ("ollama", "http://localhost:11434")
    assert (llama.context_window, llama.max_output_tokens) == (8192, 2048)
    assert (llama.vision, llama.function_calling, llama.response_schema) == (True, False, None)


def test_prices_of_a_users_file_are_exact(tmp_path: Path) -> None:
    """0.15 is no float, and must not come out as one; a price that LiteLLM does not know is computed here."""
    llama = extended(tmp_path, LLAMA).resolve("llama")
    assert (llama.priced, llama.own_prices) == (True, True)
    assert llama.price_usd(prompt_tokens=1, completion_tokens=3) == Decimal("0.00000615")
    assert llama.worst_case_usd(prompt_bytes=1, max_tokens=3) == Decimal("0.00000615")


def test_anothers_model_of_a_known_name_is_not_taken_for_the_known_one(tmp_path: Path) -> None:
    """A server of one's own has other prices than OpenAI, and LiteLLM could not compute them."""
    models = extended(tmp_path, '[models.ours]\nlitellm = "hosted_vllm/gpt-4o"\napi_base = "http://localhost:1"\n')
    ours, known = models.resolve("ours"), models.resolve("gpt-4o")
    assert (ours.priced, ours.context_window, ours.vision) == (False, None, False)
    assert known.priced


def test_a_users_price_replaces_all_tariffs_of_the_price_map(tmp_path: Path) -> None:
    prices = "input_usd_per_million_tokens = 1\noutput_usd_per_million_tokens = 1"
    sol = extended(tmp_path, f'[models.sol]\nlitellm = "openai/gpt-6-sol"\n{prices}').resolve("sol")
    assert sol.worst_case_usd(prompt_bytes=1, max_tokens=0) == Decimal("0.000001")
    assert sol.context_window == MODELS.resolve("gpt-6-sol").context_window


def test_a_model_with_an_address_of_its_own_needs_no_provider(tmp_path: Path) -> None:
    models = extended(tmp_path, LLAMA)
    assert models.resolve("llama").reachable([])
    assert not models.resolve("gpt-4o").reachable(["groq"])
    assert models.resolve("gpt-4o").reachable(["openai"])


def test_limits_are_the_providers_and_the_models(tmp_path: Path) -> None:
    models = extended(tmp_path, f"{LLAMA}\n[limits.ollama]\nconcurrency = 2\n[limits.openai]\ntokens_per_minute = 9")
    assert models.limits_of(models.resolve("llama")) == (
        catalogue.Limit(concurrency=2),
        catalogue.Limit(requests_per_minute=60),
    )
    assert models.limits_of(models.resolve("gpt-4o")) == (catalogue.Limit(tokens_per_minute=9), None)


def test_nothing_is_limited_unless_a_file_says_so() -> None:
    assert {MODELS.limits_of(model) for model in MODELS} == {(None, None)}


def test_capabilities_and_limits_come_from_the_price_map() -> None:
    groq, gemini = MODELS.resolve("gpt-oss-120b"), MODELS.resolve("gemini-3.8-flash")
    assert (groq.vision, groq.function_calling, groq.response_schema) == (False, True, True)
    assert (gemini.vision, groq.context_window, gemini.context_window) == (True, 131_072, 1_048_576)


def dated(today: date) -> catalogue.Catalogue:
    """`old` is withdrawn on 2026-03-01; `new` follows it."""
    entries = {"old": Entry(litellm="x/old", successor="new"), "new": Entry(litellm="x/new")}
    facts = {"x/old": {"mode": "chat", "deprecation_date": "2026-03-01"}, "x/new": {"mode": "chat"}}
    return catalogue.Catalogue([File(chain=["old"], models=entries)], facts, today=lambda: today)


@pytest.mark.parametrize(("today", "serving"), [(date(2026, 2, 28), "old"), (date(2026, 3, 1), "new")])
def test_a_model_is_served_by_its_successor_from_the_day_of_its_retirement(today: date, serving: str) -> None:
    models = dated(today)
    assert (models.resolve("old").name, models.chain) == (serving, (serving,))
    assert [row.served_by for row in models.listed()] == [serving, "new"]
    assert models.listed()[0].model.retires_on == date(2026, 3, 1)


def test_going_through_the_catalogue_meets_every_serving_model_once() -> None:
    names = [model.name for model in MODELS]
    assert len(names) == len(set(names))
    assert set(SERVED_BY.values()) <= set(names)
    assert "gemini-1.5-pro" not in names


def test_a_claude_that_always_thinks_writes_unseen_tokens() -> None:
    """What it may have charged when it is cut off is then a full reply."""
    assert MODELS.resolve("claude-sonnet-5-5").reasons_unseen
    assert not MODELS.resolve("claude-haiku-5-5").reasons_unseen
    assert MODELS.resolve("gpt-6-sol").reasons_unseen
    assert not MODELS.resolve("gpt-4o").reasons_unseen
