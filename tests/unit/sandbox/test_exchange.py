"""How prompts and answers are counted, cut in pieces and recorded."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mesh.sandbox import calls
from mesh.sandbox.exchange import Ask, pieces, text_of, tokens
from mesh.sandbox.formats import FORMATS

ASK = Ask("gpt-4o", stream=False, messages=(("system", "Be brief."), ("user", "Hello, you.")))


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(pieces(text))


def test_a_token_is_four_characters_begun() -> None:
    assert [tokens(count) for count in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert ASK.prompt_tokens == 5


def test_the_text_of_a_message_is_in_a_string_or_in_its_parts() -> None:
    assert text_of("a") == text_of([{"type": "text", "text": "a"}, {"type": "image"}]) == "a"
    assert text_of(None) == ""


def test_every_provider_reads_the_same_prompt_alike() -> None:
    spoken, system = {"role": "user", "content": "Hello, you."}, {"role": "system", "content": "Be brief."}
    chat = {"model": "gpt-4o", "max_tokens": 9}
    gemini = {
        "contents": [{"role": "user", "parts": [{"text": "Hello, you."}]}],
        "system_instruction": {"parts": [{"text": "Be brief."}]},
    }
    asks = [
        FORMATS["openai"].parse(chat | {"messages": [system, spoken]}, ""),
        FORMATS["anthropic"].parse(chat | {"messages": [spoken], "system": "Be brief."}, ""),
        FORMATS["gemini"].parse(gemini, "gemini-3.8-flash:generateContent"),
    ]
    assert {ask.digest for ask in asks} == {ASK.digest}


def test_the_record_is_bounded_and_the_file_is_not(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    record = calls.Calls(log, kept=2)
    for at in range(3):
        record.end(record.start("openai", "/", f"req_{at}", ASK, "", None))
    record.close()
    assert [call["n"] for call in record.as_json()] == [2, 3]
    assert [json.loads(line)["n"] for line in log.read_text("utf-8").splitlines()] == [1, 1, 2, 2, 3, 3]
