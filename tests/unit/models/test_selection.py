"""Selection: who may do a job, who is asked first, and that the receipt says why."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.models import catalogue
from mesh.models.calls import Preferences
from mesh.models.catalogue import Catalogue, Model
from mesh.models.catalogue_file import Entry, File
from mesh.models.selection import Choice, Expectation, Rejection, Selector, Wish
from tests.builders import MODELS

PROVIDERS = ("anthropic", "openai", "gemini", "groq")
CHAIN = ["claude-sonnet-5-5", "gpt-4o", "gemini-3.8-flash", "gpt-oss-120b"]
PLAIN = Wish(Preferences(), "content", 9000, 4000, needs_schema=True, has_images=False, budget_left_usd=None)
TIERS = ("LOW", "MEDIUM", "HIGH")


@dataclass
class Past:
    """What models did: the success rate by model, in all and lately, the latency by model; others do well."""

    success: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    lately: Mapping[str, float] = field(default_factory=dict)

    def expect(self, model: Model, _agent_type: str | None) -> Expectation:
        return Expectation(self.success.get(model.name, 0.95), self.seconds.get(model.name, 5))

    def success_lately(self, model: Model, _agent_type: str | None) -> float:
        return self.lately.get(model.name, 0.95)


def choose(
    preferences: Preferences = Preferences(),  # noqa: B008  # frozen
    *,
    wish: Wish = PLAIN,
    models: Catalogue = MODELS,
    providers: Collection[str] = PROVIDERS,
    past: Past = Past(),  # noqa: B008  # never changed
    broken: Collection[str] = (),
) -> Choice:
    selector = Selector(models, providers, past, lambda name: name not in broken)
    return selector.choose(replace(wish, preferences=preferences))


def names(choice: Choice) -> list[str]:
    return [candidate.model.name for candidate in choice.candidates]


def of(models: Mapping[str, Entry], *chain: str) -> Catalogue:
    """A catalogue without a price map."""
    return Catalogue([File(chain=list(chain), models=dict(models))], {})


def entry(tier: str = "MEDIUM", usd: str | None = "1") -> Entry:
    price = None if usd is None else Decimal(usd)
    return Entry(litellm="x/m", tier=tier, input_usd_per_million_tokens=price, output_usd_per_million_tokens=price)


def test_without_any_wish_the_chain_stands_in_its_order() -> None:
    choice = choose()
    assert names(choice) == CHAIN
    assert choice.reason == "First of the chain."


def test_models_of_providers_without_a_key_take_no_part() -> None:
    choice = choose(providers=["groq", "gemini"])
    assert names(choice) == ["gemini-3.8-flash", "gpt-oss-120b"]
    assert choice.rejected["gpt-4o"] is Rejection.NOT_CONFIGURED


@pytest.mark.parametrize("count", [1, 2])
def test_one_model_and_one_fallback_are_enough(count: int) -> None:
    models = of({"a": entry(), "b": entry()}, *["a", "b"][:count])
    assert names(choose(models=models, providers=["x"])) == ["a", "b"][:count]


def test_a_model_that_clearly_fails_is_asked_last_but_is_asked() -> None:
    choice = choose(past=Past(lately={"claude-sonnet-5-5": 0.3}))
    assert names(choice) == [*CHAIN[1:], CHAIN[0]]
    assert choice.reason == "First of the chain that can be relied on."
    assert choice.candidates[-1].parts["success"] == -0.7


def test_a_model_that_fails_now_and_then_keeps_its_place() -> None:
    assert names(choose(past=Past(lately={"claude-sonnet-5-5": 0.6}))) == CHAIN


def test_a_model_that_failed_all_morning_is_first_again_once_it_has_not_lately() -> None:
    """Nobody asks it at the chain's end, so no success of its own could bring it back."""
    assert names(choose(past=Past(success={"claude-sonnet-5-5": 0.01}))) == CHAIN


@pytest.mark.parametrize("wish", [replace(PLAIN, has_images=True), PLAIN])
def test_images_and_vision_are_for_models_that_see(wish: Wish) -> None:
    choice = choose(Preferences(requires_vision=not wish.has_images), wish=wish)
    assert names(choice) == CHAIN[:3]
    assert choice.rejected == {"gpt-oss-120b": Rejection.NO_VISION}


def test_what_the_chain_cannot_do_is_done_by_others() -> None:
    """Only Groq is in the chain, and it sees nothing."""
    models = Catalogue([File(chain=["blind"], models={"blind": entry(), "seeing": SEEING})], {})
    choice = choose(Preferences(requires_vision=True), models=models, providers=["x"])
    assert names(choice) == ["seeing"]
    assert "None of the chain can" in choice.reason


SEEING = Entry(litellm="x/s", vision=True, function_calling=True)


def test_functions_are_called_by_models_that_are_known_to() -> None:
    models = of({"plain": entry(), "calling": SEEING}, "plain", "calling")
    choice = choose(Preferences(requires_function_calling=True), models=models, providers=["x"])
    assert names(choice) == ["calling"]
    assert choice.rejected == {"plain": Rejection.NO_FUNCTION_CALLING}


def test_a_schema_excludes_only_models_that_are_known_not_to_follow_one() -> None:
    facts: dict[str, dict[str, Any]] = {
        "x/no": {"supports_response_schema": False},
        "x/yes": {"supports_response_schema": True},
        "x/who-knows": {"x": 1},
    }
    models = Catalogue([File(chain=[*facts], models={name: Entry(litellm=name) for name in facts})], facts)
    assert names(choose(models=models, providers=["x"])) == ["x/yes", "x/who-knows"]
    assert names(choose(models=models, providers=["x"], wish=replace(PLAIN, needs_schema=False))) == [*facts]


@pytest.mark.parametrize(("prompt_bytes", "fits"), [(12_000, True), (12_001, False)])
def test_prompt_and_reply_must_fit_the_context_window(prompt_bytes: int, fits: bool) -> None:
    """Three bytes a token: 4,000 tokens and a reply of 4,192 fill a window of 8,192."""
    models = of({"small": Entry(litellm="x/small", context_window=8192)}, "small")
    choice = choose(models=models, providers=["x"], wish=replace(PLAIN, prompt_bytes=prompt_bytes, max_tokens=4192))
    assert names(choice) == (["small"] if fits else [])
    assert choice.rejected == ({} if fits else {"small": Rejection.CONTEXT_TOO_SMALL})


def test_a_model_whose_breaker_is_open_is_left_out() -> None:
    choice = choose(broken=["claude-sonnet-5-5"])
    assert names(choice) == CHAIN[1:]
    assert choice.rejected == {"claude-sonnet-5-5": Rejection.BREAKER_OPEN}


def test_when_nobody_may_be_asked_the_reasons_are_all_there_is() -> None:
    choice = choose(Preferences(model="groq"), broken=[model.name for model in MODELS])
    assert names(choice) == []
    assert set(choice.rejected.values()) == {Rejection.BREAKER_OPEN}
    assert choice.reason == "groq cannot. No model can."


def test_a_budget_leaves_only_models_whose_worst_case_fits() -> None:
    """Sonnet and GPT-4o may cost 5 to 6 cents, Gemini 2, Groq 0.4."""
    choice = choose(wish=replace(PLAIN, budget_left_usd=Decimal("0.03")))
    assert names(choice) == CHAIN[2:]
    assert choice.rejected == dict.fromkeys(CHAIN[:2], Rejection.OVER_BUDGET)


def test_a_budget_too_small_for_the_chain_is_spent_on_cheaper_models() -> None:
    choice = choose(wish=replace(PLAIN, budget_left_usd=Decimal("0.002")))
    assert names(choice) == ["gpt-oss-20b"]
    assert names(choose(wish=replace(PLAIN, budget_left_usd=Decimal(0)))) == []


def test_the_worst_case_is_of_the_reply_that_will_be_asked_for() -> None:
    """A model that writes at most 10 tokens is not asked for 4,000."""
    terse = Entry(
        litellm="x/t",
        max_output_tokens=10,
        input_usd_per_million_tokens=Decimal(0),
        output_usd_per_million_tokens=Decimal(1),
    )
    wish = replace(PLAIN, budget_left_usd=Decimal("0.00001"))
    assert names(choose(models=of({"terse": terse}, "terse"), providers=["x"], wish=wish)) == ["terse"]


@pytest.mark.parametrize("name", ["gpt-oss-20b", "claude-3-7-sonnet", "groq", "gpt-4o"])
def test_a_model_asked_for_by_name_is_first_and_the_chain_follows(name: str) -> None:
    choice = choose(Preferences(model=name), past=Past(lately={MODELS.resolve(name).name: 0.1}))
    serving = MODELS.resolve(name).name
    assert names(choice)[0] == serving
    assert [other for other in names(choice) if other != serving] == [other for other in CHAIN if other != serving]
    assert choice.reason == "Asked for by name."
    receipt = choice.receipt(choice.candidates[0].model)
    assert receipt.get("requested_model") == (None if name == serving else name)


def test_a_model_asked_for_by_name_is_first_before_better_scores() -> None:
    choice = choose(Preferences(model="gpt-oss-20b", task_complexity="HIGH"))
    assert names(choice)[:2] == ["gpt-oss-20b", "claude-sonnet-5-5"]


def test_a_model_asked_for_by_name_that_cannot_gives_way_and_the_receipt_says_so() -> None:
    choice = choose(Preferences(model="groq", requires_vision=True))
    assert names(choice) == CHAIN[:3]
    assert choice.reason == "groq cannot. First of the chain."
    receipt = choice.receipt(choice.candidates[0].model)
    assert receipt["requested_model"] == "groq"
    assert receipt["rejected"] == {"gpt-oss-120b": "no_vision"}


def test_a_stored_name_that_has_left_the_catalogue_gives_way() -> None:
    choice = choose(Preferences(model="house-model"))
    assert names(choice) == CHAIN
    assert choice.rejected == {"house-model": Rejection.UNKNOWN}


@pytest.mark.parametrize(
    ("complexity", "cost_sensitive", "first"),
    [
        ("LOW", False, "gpt-oss-20b"),
        ("LOW", True, "gpt-oss-20b"),
        ("HIGH", False, "claude-sonnet-5-5"),
        ("HIGH", True, "claude-sonnet-5-5"),
    ],
)
def test_complexity_chooses_among_all_models(complexity: str, cost_sensitive: bool, first: str) -> None:
    choice = choose(Preferences(task_complexity=complexity, cost_sensitive=cost_sensitive))  # type: ignore[arg-type]
    assert names(choice)[0] == first
    assert choice.candidates[0].model.tier == complexity
    assert set(names(choice)) == {model.name for model in MODELS}


@pytest.mark.parametrize("complexity", TIERS)
def test_of_equals_the_one_of_the_wanted_tier_is_first(complexity: str) -> None:
    models = of({tier: entry(tier) for tier in TIERS}, "LOW", "MEDIUM", "HIGH")
    models_of_nobody = of({tier: entry(tier) for tier in TIERS}, complexity)
    for one in (models, models_of_nobody):
        preferences = Preferences(task_complexity=complexity)  # type: ignore[arg-type]
        assert names(choose(preferences, models=one, providers=["x"]))[0] == complexity


def test_where_cost_matters_the_cheaper_of_a_tier_is_first_whatever_the_chain_says() -> None:
    models = of({"dear": entry("HIGH", "10"), "cheap": entry("HIGH", "1")}, "dear", "cheap")
    for complexity in (None, *TIERS):
        preferences = Preferences(task_complexity=complexity, cost_sensitive=True)  # type: ignore[arg-type]
        assert names(choose(preferences, models=models, providers=["x"]))[0] == "cheap"


def test_a_free_model_beats_any_price_where_cost_matters() -> None:
    models = of({"cheap": entry(usd="0.001"), "free": entry(usd="0"), "unknown": entry(usd=None)}, "cheap")
    assert names(choose(Preferences(cost_sensitive=True), models=models, providers=["x"]))[0] == "free"


@pytest.mark.parametrize("past", [Past(success={"a": 0.6}), Past(seconds={"a": 60})])
def test_experience_decides_between_equals(past: Past) -> None:
    models = of({"a": entry(), "b": entry()}, "a", "b")
    preferences = Preferences(task_complexity="MEDIUM")
    assert names(choose(preferences, models=models, providers=["x"])) == ["a", "b"]
    assert names(choose(preferences, models=models, providers=["x"], past=past))[0] == "b"


def test_a_scarce_budget_prefers_the_model_that_leaves_more_of_it() -> None:
    models = of({"dear": entry(usd="1.5"), "cheap": entry(usd="1")}, "dear", "cheap")
    preferences = Preferences(task_complexity="HIGH")
    assert names(choose(preferences, models=models, providers=["x"]))[0] == "dear"
    scarce = replace(PLAIN, budget_left_usd=Decimal("0.02"))
    assert names(choose(preferences, models=models, providers=["x"], wish=scarce))[0] == "cheap"


def test_equal_scores_stand_by_name() -> None:
    models = of({"c": entry(), "a": entry(), "b": entry(), "z": entry(usd="50")}, "z")
    assert names(choose(Preferences(cost_sensitive=True), models=models, providers=["x"])) == ["a", "b", "c", "z"]


def test_an_own_address_makes_a_model_a_candidate_without_its_provider() -> None:
    local = Entry(litellm="ollama/llama", api_base="http://localhost:11434")
    assert names(choose(models=of({"local": local}, "local"), providers=[])) == ["local"]


wishes = st.builds(
    replace,
    st.just(PLAIN),
    prompt_bytes=st.integers(0, 3_000_000),
    max_tokens=st.integers(1, 100_000),
    has_images=st.booleans(),
    budget_left_usd=st.none() | st.decimals(0, 10, places=4),
)
asked = st.builds(
    Preferences,
    model=st.none() | st.sampled_from(["claude-3-7-sonnet", "groq", "gone"]),
    task_complexity=st.none() | st.sampled_from(TIERS),
    requires_vision=st.booleans(),
    requires_function_calling=st.booleans(),
    cost_sensitive=st.booleans(),
)
rates = st.dictionaries(st.sampled_from(CHAIN), st.floats(0, 1))
broken = st.sets(st.sampled_from([model.name for model in MODELS]))


@given(asked, wishes, rates, broken)
def test_every_choice_is_explained_repeatable_and_within_its_limits(
    preferences: Preferences, wish: Wish, success: dict[str, float], broken: set[str]
) -> None:
    past = Past(success=success, lately=success)
    choice = choose(preferences, wish=wish, past=past, broken=broken)
    again = choose(preferences, wish=wish, past=past, broken=broken)
    assert choice == again
    assert len(set(names(choice))) == len(names(choice))
    assert not set(names(choice)) & set(choice.rejected)
    for candidate in choice.candidates:
        model = candidate.model
        assert model.name not in broken
        assert model.vision or not (preferences.requires_vision or wish.has_images)
        tokens = min(wish.max_tokens, model.max_output_tokens or wish.max_tokens)
        worst = model.worst_case_usd(prompt_bytes=wish.prompt_bytes, max_tokens=tokens)
        assert wish.budget_left_usd is None or worst <= wish.budget_left_usd
        receipt = json.loads(json.dumps(choice.receipt(model)))
        assert receipt["chosen"] == model.name
        assert len(json.dumps(receipt)) < 2_000
    if not choice.candidates:
        assert choice.rejected.keys() >= {model.name for model in MODELS}


def test_a_receipt_tells_who_was_asked_before() -> None:
    choice = choose()
    assert choice.receipt(choice.candidates[0].model)["reason"] == "First of the chain."
    third = choice.receipt(choice.candidates[2].model)
    assert third["reason"] == "Next after claude-sonnet-5-5, gpt-4o."
    assert [shown["model"] for shown in third["candidates"]] == CHAIN
    assert third["candidates"][1] == {"model": "gpt-4o", "score": 0.75, "parts": {"chain": 0.75}}
    assert "requested_model" not in third


def test_a_users_chain_of_one_local_model_asks_nobody_else(tmp_path: Path) -> None:
    """Its user may have keys for others, and reasons not to send them everything."""
    file = tmp_path / "models.toml"
    file.write_text('chain = ["l"]\n[models.l]\nlitellm = "ollama/l"\napi_base = "http://localhost:11434"\n', "utf-8")
    assert names(choose(models=catalogue.load(file))) == ["l"]
