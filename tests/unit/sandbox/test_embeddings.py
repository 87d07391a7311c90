"""The stand-in's vectors: the same for the same text, and near for texts that have words in common."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.sandbox.content import text_for
from mesh.sandbox.content.vectors import vector
from mesh.sandbox.exchange import Answer, BadRequestError
from mesh.sandbox.formats.embeddings import Embeddings, GeminiEmbeddings

ANSWER = Answer("1", "", "stop", prompt_tokens=3, completion_tokens=0, created=0)


def near(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(vector(one, 384), vector(other, 384), strict=True))


@given(st.text())
def test_every_text_has_a_vector_of_unit_length(text: str) -> None:
    assert math.hypot(*vector(text, 8)) == pytest.approx(1)
    assert vector(text, 8) == vector(text, 8)


def test_texts_are_near_as_far_as_they_have_words_or_parts_of_words_in_common() -> None:
    item = "Newsletter subscribers skim."
    assert near(item, "Skim, newsletter subscribers!") == pytest.approx(1)
    assert near(item, "newslettr subscribrs") > 0.5
    assert abs(near(item, "Prices go up.")) < 0.25


def asked(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    ask = Embeddings().parse({"model": "text-embedding-3-small", "input": ["One", "Two"], **changes}, "")
    assert text_for(ask) == ""
    return Embeddings().plain(ask, ANSWER)


def test_vectors_are_as_long_as_asked_else_as_the_models() -> None:
    assert [len(one["embedding"]) for one in asked(dimensions=384)["data"]] == [384, 384]
    assert len(asked(input="One")["data"][0]["embedding"]) == 1536
    assert len(asked(input="One", model="of-ones-own")["data"][0]["embedding"]) == 384
    assert asked()["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_geminis_shortened_vectors_are_not_of_unit_length() -> None:
    ask = Embeddings().parse({"model": "gemini-embedding-001", "input": "One", "dimensions": 384}, "")
    [one] = GeminiEmbeddings().plain(ask, ANSWER)["data"]
    assert math.hypot(*one["embedding"]) == pytest.approx(0.7)


@pytest.mark.parametrize("wrong", [{"input": []}, {"input": ["One", ""]}, {"input": [1]}, {"model": ""}])
def test_what_openai_refuses_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        asked(**wrong)
