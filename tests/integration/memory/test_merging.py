"""What agents say twice becomes one item; what users add stays."""

from collections.abc import Sequence
from typing import Any

import pytest

from mesh.costs.ledger import Spender
from mesh.memory.embedding import Embedder, Embedding
from mesh.memory.service import Memory
from mesh.memory.views import MemoryView, NewMemory
from tests.builders import agent_reply, decision, subtask
from tests.integration.tasks.core import ANN, Core

FIRST = "Open rates are highest on Tuesday mornings."


def note(content: str, confidence: float = 0.5, kind: str = "fact") -> dict[str, Any]:
    return {"type": kind, "content": content, "confidence": confidence}


def say(core: Core, network: str, *notes: dict[str, Any]) -> str:
    """An agent notes it in a task of its own, which is answered."""
    task_id = core.submit(network).task_id
    core.finish(core.claim(), decision(subtask("copy")))
    core.finish(core.claim("content"), agent_reply("Text", notes))
    core.finish(core.claim(), decision())
    return task_id


def items(memory: Memory, network: str) -> list[MemoryView]:
    return list(memory.list(ANN, network, limit=50))


def announced(core: Core, task_id: str) -> list[dict[str, Any]]:
    return [event.data for event in core.events(task_id) if event.type == "memory"]


def test_what_is_there_already_is_noted_to_be_said_again(core: Core, memory: Memory, network: str) -> None:
    say(core, network, note(FIRST, 0.5))
    [first] = items(memory, network)
    task_id = say(core, network, note("  open rates are highest\non TUESDAY mornings. ", 0.9))
    [stands] = items(memory, network)
    assert (stands.memory_id, stands.content, stands.confidence) == (first.memory_id, FIRST, 0.9)
    assert (stands.version, stands.source.task_id) == (2, first.source.task_id)
    assert [(again["task_id"], again["memory_id"]) for again in stands.source.said_again] == [(task_id, None)]


def test_the_event_names_the_item_that_stands(core: Core, memory: Memory, network: str) -> None:
    say(core, network, note(FIRST))
    task_id = say(core, network, note(FIRST.upper()), note("Something new."))
    fresh, stands = items(memory, network)
    assert [event["memory_id"] for event in announced(core, task_id)] == [stands.memory_id, fresh.memory_id]
    live = [event for _, batch in core.live.published for event in batch if event.data["task_id"] == task_id]
    assert [event.data["memory_id"] for event in live if event.type == "memory"] == [
        stands.memory_id,
        fresh.memory_id,
    ]


def test_what_one_reply_says_twice_it_says_once_with_the_greater_confidence(
    core: Core, memory: Memory, network: str
) -> None:
    task_id = say(core, network, note(FIRST, 0.4), note(FIRST.lower(), 0.7), note(FIRST, 0.1))
    assert [(view.confidence, view.source.said_again) for view in items(memory, network)] == [(0.7, ())]
    assert len(announced(core, task_id)) == 1


def test_another_type_or_an_item_that_expires_does_not_stand_for_it(core: Core, memory: Memory, network: str) -> None:
    memory.add(ANN, network, NewMemory(FIRST, ttl_seconds=60))
    say(core, network, note(FIRST), note(FIRST, kind="decision"))
    assert len(items(memory, network)) == 3


def test_what_a_user_adds_is_always_an_item_and_may_stand_for_an_agents(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    given = [memory.add(ANN, network, NewMemory(FIRST, confidence=0.3)).memory_id for _ in range(2)]
    say(core, network, note(FIRST, 0.6))
    embedding.run()
    assert {view.memory_id: (view.confidence, view.source.kind) for view in items(memory, network)} == {
        given[0]: (0.6, "user"),
        given[1]: (0.3, "user"),
    }


def test_what_means_the_same_is_merged_when_it_is_embedded(
    core: Core, memory: Memory, embedding: Embedding, network: str
) -> None:
    """The order of its words is all that differs for the stand-in model."""
    say(core, network, note("The tone of the brand is dry.", 0.5))
    say(core, network, note("Dry is the tone of the brand.", 0.8))
    newer, older = items(memory, network)
    embedding.run()
    [stands] = items(memory, network)
    assert (stands.memory_id, stands.content, stands.confidence, stands.version) == (
        older.memory_id,
        older.content,
        0.8,
        2,
    )
    assert [again["memory_id"] for again in stands.source.said_again] == [newer.memory_id]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Segment A converts better than segment B.", "Segment B converts better than segment A."),
        ("The year brought growth of 12 percent.", "The year brought growth of 21 percent."),
        ("We use exclamation marks.", "We do not use exclamation marks."),
        ("In the shop Ann helps Bob.", "In the shop Bob helps Ann."),
        ("Customers read long mails.", "Customers read short mails."),
    ],
)
def test_what_one_word_decides_stays_apart_however_near(one: str, other: str, core: Core, network: str) -> None:
    class Alike(Embedder):
        model = "alike"

        def embed(self, texts: Sequence[str], _spender: Spender) -> list[list[float]]:
            return [[1.0] + [0.0] * 383 for _ in texts]

    say(core, network, note(one), note(other))
    Embedding(core.database, Alike(), core.clock).run()
    assert len(items(Memory(core.database, core.clock), network)) == 2


@pytest.mark.parametrize(("least_similarity", "left"), [(0.25, 1), (0.6, 2)])
def test_a_model_that_holds_everything_for_similar_must_hold_the_same_for_more_so(
    least_similarity: float, left: int, core: Core, network: str
) -> None:
    class Close(Embedder):
        model = "close"

        def embed(self, texts: Sequence[str], _spender: Spender) -> list[list[float]]:
            return [[1.0, 0.0] + [0.0] * 382 if "well" in text else [0.96, 0.28] + [0.0] * 382 for text in texts]

    say(core, network, note("Short mails sell."), note("Short mails sell well."))
    close = Close()
    close.least_similarity = least_similarity
    Embedding(core.database, close, core.clock).run()
    assert len(items(Memory(core.database, core.clock), network)) == left


@pytest.mark.parametrize("change", [{"pinned": True}, {"confidence": 1.0}, {"ttl_seconds": 3600}])
def test_what_a_user_has_touched_does_not_go(
    change: Any,  # noqa: ANN401  # fields
    core: Core,
    memory: Memory,
    embedding: Embedding,
    network: str,
) -> None:
    say(core, network, note("The tone of the brand is dry."))
    say(core, network, note("Dry is the tone of the brand."))
    memory.change(ANN, network, items(memory, network)[0].memory_id, change)
    embedding.run()
    assert len(items(memory, network)) == 2
