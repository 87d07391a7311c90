"""The kinds of agent: one file each, found by itself."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from mesh.agents import kinds
from mesh.agents.kinds import DEFAULTS, Kind, kind_of

MODULES = sorted(path.stem for path in Path(kinds.__file__).parent.glob("[!_]*.py"))
KINDS: list[Kind] = [import_module(f"mesh.agents.kinds.{module}").KIND for module in MODULES]


@pytest.mark.parametrize("kind", KINDS, ids=MODULES)
def test_a_file_in_the_folder_is_all_a_kind_needs(kind: Kind) -> None:
    assert kind_of(kind.type) is kind


def test_a_network_without_agents_gets_the_five_promised_ones() -> None:
    assert [(kind.type, kind.name) for kind in DEFAULTS] == [
        ("coordinator", "Coordinator Agent"),
        ("content", "Content Specialist"),
        ("design", "Design Specialist"),
        ("analytics", "Analytics Specialist"),
        ("personalization", "Personalization Specialist"),
    ]


@pytest.mark.parametrize("agent_type", ["seo", "custom", "Content", ""])
def test_every_other_type_is_a_custom_agent(agent_type: str) -> None:
    assert kind_of(agent_type).type == "custom"


@pytest.mark.parametrize("kind", KINDS, ids=MODULES)
def test_a_kind_can_be_configured_as_an_agent(kind: Kind) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", kind.type)
    assert 150 <= len(kind.instructions.split()) <= 350
    assert 0 <= kind.parameters.temperature <= 1
    assert kind.parameters.max_tokens <= 16_384  # what GPT-4o can write
