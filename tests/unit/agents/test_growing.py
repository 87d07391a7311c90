"""The text in a reply that is still being written: it only ever grows, and ends as what is stored."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.agents.growing import GrowingText
from mesh.agents.schemas import parse_reply

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text('"\\/\n\t\u0000😀é\u2028')


def reply(result: str, *, ascii_only: bool) -> str:
    fields = {"reasoning": 'Not "result": this', "result": result, "confidence": 0.5, "memories": []}
    return json.dumps(fields, ensure_ascii=ascii_only)


@given(TEXTS, st.booleans(), st.integers(1, 7))
def test_a_text_grows_piece_by_piece_into_what_is_stored(result: str, ascii_only: bool, size: int) -> None:
    raw = reply(result + "!", ascii_only=ascii_only)
    growing = GrowingText("result")
    shown = []
    for at in range(0, len(raw), size):
        growing.add(raw[at : at + size])
        shown.append(growing.grown())
    assert "".join(shown) == parse_reply(raw).result


@pytest.mark.parametrize("raw", ["", "Sorry, ", "[1]", '{"result": 7', '{"result": ["x', '{"result": "a\\q', "null"])
def test_what_is_no_text_of_a_reply_is_not_shown(raw: str) -> None:
    growing = GrowingText("result")
    growing.add(raw)
    assert growing.grown() == ""


def test_a_text_that_turns_into_another_one_stands_still() -> None:
    growing = GrowingText("result")
    growing.add('{"result": "one", "result": "')
    assert growing.grown() == ""
    growing = GrowingText("result")
    growing.add('{"result": "one"')
    assert growing.grown() == "one"
    growing.add(', "result": "two and more"')
    assert growing.grown() == ""


def test_the_longest_text_costs_a_small_part_of_the_time_between_two_looks() -> None:
    growing = GrowingText("result")
    growing.add(reply("A line of twenty or so.\n" * 8_300, ascii_only=False)[:-30])
    growing.grown()
    took = []
    for _ in range(20):
        growing.add("x")
        began = time.thread_time()
        growing.grown()
        took.append(time.thread_time() - began)
    assert min(took) < 0.005  # of 55 ms; measured: 0.2 ms
