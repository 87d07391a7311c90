"""Rules strike the calls they name, as often as they say, and the same ones in every run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import ConfigurationError, InvalidInputError
from mesh.sandbox.exchange import Ask
from mesh.sandbox.faults import KINDS, Fault, Faults, load, parse, rules

NO_HEADERS: Mapping[str, str] = {}
ASK = Ask("claude-sonnet-5-5", stream=True, messages=(("system", "Be brief."), ("user", "Write about X1.")))


def _struck(rule: dict[str, Any], calls: int = 1, headers: Mapping[str, str] = NO_HEADERS) -> list[bool]:
    faults = Faults(rules([rule]), seed=7)
    return [faults.choose("anthropic", ASK, headers) is not None for _ in range(calls)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_asked_for_with_and_without_an_argument(kind: str) -> None:
    assert parse(kind) == Fault(kind)
    assert parse(f"{kind};1.5") == Fault(kind, 1.5)


@pytest.mark.parametrize("text", ["", "explode", "429;soon"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse(text)


@pytest.mark.parametrize(
    ("match", "strikes"),
    [
        ({}, True),
        ({"provider": "anthropic"}, True),
        ({"provider": "groq"}, False),
        ({"model": "sonnet"}, True),
        ({"model": "haiku"}, False),
        ({"prompt": "about X1"}, True),
        ({"prompt": "about X2"}, False),
        ({"stream": True}, True),
        ({"stream": False}, False),
        ({"header": "X-Mesh-Call: step_1"}, True),
        ({"header": "X-Mesh-Call"}, True),
        ({"header": "X-Mesh-Call: step_2"}, False),
        ({"header": "X-Other"}, False),
    ],
)
def test_a_rule_strikes_the_calls_that_match(match: dict[str, Any], strikes: bool) -> None:
    assert _struck({"match": match, "fault": "500"}, headers={"X-Mesh-Call": "step_1"}) == [strikes]


@pytest.mark.parametrize(("nth", "struck"), [(2, [False, True, False, False]), ([1, 4], [True, False, False, True])])
def test_nth_counts_matching_calls_from_one(nth: int | list[int], struck: list[bool]) -> None:
    assert _struck({"match": {"nth": nth}, "fault": "500"}, 4) == struck


def test_times_bounds_how_often_a_rule_strikes() -> None:
    assert _struck({"fault": "500", "times": 2}, 4) == [True, True, False, False]


def test_chance_is_the_same_in_every_run() -> None:
    rule = {"fault": "500", "probability": 0.3}
    struck = _struck(rule, 200)
    assert struck == _struck(rule, 200)
    assert 30 < sum(struck) < 90


def test_the_first_rule_that_fires_decides() -> None:
    faults = Faults(rules([{"fault": "500", "times": 1}, {"fault": {"kind": "429", "argument": 2}}]))
    chosen = [faults.choose("anthropic", ASK, {}) for _ in range(2)]
    assert chosen == [Fault("500"), Fault("429", 2.0)]


def test_the_header_wins_over_the_rules() -> None:
    faults = Faults(rules([{"fault": "500"}]))
    assert faults.choose("anthropic", ASK, {"X-Sandbox-Fault": "429;2"}) == Fault("429", 2.0)


@pytest.mark.parametrize(
    "rule", [{}, {"fault": "explode"}, {"fault": "500", "colour": "red"}, {"fault": "500", "times": 0}]
)
def test_a_rule_that_cannot_be_read_is_refused_with_its_place(rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="1"):
        rules([{"fault": "500"}, rule])


@pytest.mark.parametrize("text", ["", "{", '{"faults": [{"fault": "explode"}]}'])
def test_a_file_that_cannot_be_used_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"faults\.json"):
        load(file)
