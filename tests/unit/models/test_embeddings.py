"""Embedding models: which there are, how they are called, and what their answers are worth."""

import math
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from mesh.bootstrap import build, build_embedding, choose_embedder
from mesh.config import Settings
from mesh.db.vectors import DIMENSIONS
from mesh.errors import ConfigurationError, ModelCallError
from mesh.memory import local_model
from mesh.models import catalogue
from mesh.models.calls import ModelCall, RawReply
from mesh.models.catalogue import Catalogue, EmbeddingModel, Limit
from mesh.models.embedding_calls import GEMINI, arguments, reply_of, unit_vectors
from mesh.models.embeddings import chosen, stored_as
from mesh.models.gateway import Gateway
from mesh.models.providers import Access, access_to
from mesh.models.providers._base import NO_KEY
from tests.builders import MODELS

KEY = SecretStr("sk-made-up")
SMALL = MODELS.embedding("text-embedding-3-small")
OWN = """
[embeddings.ours]
litellm = "openai/all-minilm"
api_base = "http://localhost:11434/v1"
input_usd_per_million_tokens = 0
least_similarity = 0.3
concurrency = 2
"""


def extended(folder: Path, text: str = OWN) -> Catalogue:
    file = folder / "models.toml"
    file.write_text(text, "utf-8")
    return catalogue.load(file)


def call_of(model: EmbeddingModel, *texts: str) -> ModelCall:
    messages = [{"role": "user", "content": text} for text in texts]
    return ModelCall("call_1", None, model, messages, None, 0, None, None, timeout_seconds=15)


def answer(*vectors: Any, prompt_tokens: int = 7, order: list[int] | None = None) -> SimpleNamespace:  # noqa: ANN401  # lists
    data = [{"embedding": vector, "index": order[at] if order else None} for at, vector in enumerate(vectors)]
    return SimpleNamespace(data=data, usage=SimpleNamespace(prompt_tokens=prompt_tokens))


@pytest.mark.parametrize("name", ["text-embedding-3-small", "text-embedding-3-large", "gemini-embedding-001"])
def test_every_embedding_model_has_a_known_price_and_makes_short_vectors(name: str) -> None:
    model = MODELS.embedding(name)
    assert model.worst_case_usd(prompt_bytes=1, max_tokens=0) > 0
    assert model.worst_case_usd(prompt_bytes=1, max_tokens=0) == model.price_usd(prompt_tokens=1, completion_tokens=0)
    assert arguments(call_of(model, "x"), Access("key", None))["dimensions"] == DIMENSIONS


def test_embedding_models_are_none_that_reply() -> None:
    assert "text-embedding-3-small" not in {row.model.name for row in MODELS.listed()}


def test_of_a_text_no_more_is_sent_than_the_model_certainly_reads(tmp_path: Path) -> None:
    """A text that is too long would be refused for ever."""
    short = extended(tmp_path, '[embeddings.short]\nlitellm = "openai/x"\ncontext_window = 4').embedding("short")
    assert [short.cut(text) for text in ("abc", "abcdef", "abc\u00e9f")] == ["abc", "abcd", "abc"]


def test_a_server_of_ones_own_is_asked_without_a_key_and_without_dimensions(tmp_path: Path) -> None:
    models = extended(tmp_path)
    ours = models.embedding("ours")
    access = access_to(ours, {"openai": Access("sk-secret", None)})
    assert access is not None
    given = arguments(call_of(ours, "One", "Two"), access)
    assert (given["api_base"], given["api_key"]) == ("http://localhost:11434/v1", NO_KEY)
    assert (given["model"], given["input"], "dimensions" in given) == ("openai/all-minilm", ["One", "Two"], False)
    assert (ours.least_similarity, ours.priced) == (0.3, True)
    assert ours.worst_case_usd(prompt_bytes=9, max_tokens=0) == 0
    assert models.limits_of(ours) == (None, Limit(concurrency=2))


@pytest.mark.parametrize("base", [None, "http://localhost:1/v1beta"])
def test_gemini_is_asked_in_openais_format(base: str | None) -> None:
    given = arguments(call_of(MODELS.embedding("gemini-embedding-001"), "x"), Access("key", base))
    assert (given["model"], given["api_base"]) == ("openai/gemini-embedding-001", f"{base or GEMINI}/openai")


def test_vectors_come_in_the_order_of_the_texts_with_their_exact_price() -> None:
    raw = reply_of(call_of(SMALL, "one", "two"), answer([2.0], [1.0], order=[1, 0]))
    assert list(raw.vectors) == [[1.0], [2.0]]
    assert (raw.usage.prompt_tokens, raw.cost_usd, raw.estimated) == (7, Decimal("0.00000014"), False)


def test_without_usage_a_call_is_charged_a_token_a_byte_and_marked() -> None:
    raw = reply_of(call_of(SMALL, "one", "two"), answer([2.0], [1.0], prompt_tokens=0))
    assert (raw.usage.prompt_tokens, raw.cost_usd, raw.estimated) == (6, Decimal("0.00000012"), True)


def test_vectors_are_brought_to_unit_length() -> None:
    [vector] = unit_vectors(call_of(SMALL, "one"), raw_of([0.3, 0.4] + [0.0] * (DIMENSIONS - 2)))
    assert vector[:2] == pytest.approx([0.6, 0.8])
    assert math.hypot(*vector) == pytest.approx(1)


@pytest.mark.parametrize(
    ("vectors", "code", "said"),
    [
        ([[1.0] * 1536], "wrong_dimensions", "1536 numbers; 384 are needed"),
        ([[1.0] * DIMENSIONS] * 2, "malformed_reply", "could not be used"),
        ([], "malformed_reply", "could not be used"),
        ([[0.0] * DIMENSIONS], "malformed_reply", "could not be used"),
        ([[math.nan] * DIMENSIONS], "malformed_reply", "could not be used"),
    ],
)
def test_vectors_that_cannot_be_kept_are_a_failed_call(vectors: list[list[float]], code: str, said: str) -> None:
    with pytest.raises(ModelCallError, match=said) as caught:
        unit_vectors(call_of(SMALL, "one"), raw_of(*vectors))
    assert caught.value.code == code


def raw_of(*vectors: list[float]) -> RawReply:
    return reply_of(call_of(SMALL, "one"), answer(*vectors))


def settings(name: str, **changes: Any) -> Settings:  # noqa: ANN401  # fields by name
    base = Settings(database_url="postgresql://nowhere/mesh", redis_url="redis://127.0.0.1:1", embeddings=name)
    keys = dict.fromkeys(("openai_api_key", "openai_api_base", "gemini_api_key", "models_file"))
    return base.model_copy(update={**keys, **changes})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text-embeding-3-small", "Did you mean text-embedding-3-small?"),
        ("yes", "auto, local, off, text-embedding-3-small"),
        ("gemini-embedding-001", "needs GEMINI_API_KEY"),
    ],
)
def test_a_control_worker_does_not_start_with_a_model_that_cannot_be_asked(name: str, said: str) -> None:
    mesh = build(settings(name, openai_api_key=KEY), name="test")
    with pytest.raises(ConfigurationError, match=said):
        build_embedding(mesh, worker_id="worker_1", load_gateway=unloaded)


def test_a_model_that_is_named_is_taken_and_nothing_is_loaded_for_it() -> None:
    mesh = build(settings("text-embedding-3-small", openai_api_key=KEY), name="test")
    assert build_embedding(mesh, worker_id="worker_1", load_gateway=unloaded) is not None
    assert chosen(mesh.settings, mesh.catalogue) == SMALL


def test_vectors_of_two_servers_are_not_compared_though_their_models_have_one_name(tmp_path: Path) -> None:
    models = extended(tmp_path, OWN + OWN.replace("ours", "theirs").replace("localhost", "elsewhere"))
    ours, theirs = (models.embedding(name) for name in ("ours", "theirs"))
    usual = settings("auto", openai_api_key=KEY)
    elsewhere = settings("auto", openai_api_base="http://elsewhere")
    names = [stored_as(ours, usual), stored_as(theirs, usual), *(stored_as(SMALL, each) for each in (usual, elsewhere))]
    assert len(set(names)) == 4
    assert names[2] == "openai/text-embedding-3-small:384"
    moved = extended(tmp_path, OWN.replace("localhost", "elsewhere")).embedding("ours")
    assert stored_as(moved, usual) == names[0]


def test_vectors_of_the_sandbox_are_not_compared_with_a_providers() -> None:
    """Wherever it listens this time."""
    here, there = (settings("auto", sandbox=True, openai_api_base=f"http://127.0.0.1:{port}") for port in (1, 2))
    assert stored_as(SMALL, here) == stored_as(SMALL, there) != stored_as(SMALL, settings("auto", openai_api_key=KEY))


def unloaded() -> Gateway:
    raise AssertionError("LiteLLM takes seconds to load.")


@pytest.mark.parametrize("name", ["off", "auto", "local"])
def test_no_provider_is_chosen_unless_it_is_named(name: str) -> None:
    if name == "local" and not local_model.installed():
        pytest.skip("without the extra `embeddings`")
    mesh = build(settings(name, openai_api_key=KEY), name="test")
    embedder = choose_embedder(mesh, "worker_1", unloaded)
    assert embedder is None or not embedder.charges


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[embeddings.a]\nlitellm = "ollama/x"', "litellm"),
        ('[embeddings.a]\nlitellm = "openai/x"\nleast_similarity = 1', "least_similarity"),
        ('[embeddings.gpt-4o]\nlitellm = "openai/x"', "of one name: gpt-4o"),
        ('[embeddings.local]\nlitellm = "openai/x"', "something else by local"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_with_the_reason(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        extended(tmp_path, text)
