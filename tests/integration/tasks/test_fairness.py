"""Fairness: between owners a step a turn, within one owner priority, then age; and nobody starves."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert, select

from mesh.db.tables import steps
from mesh.tasks.claims import Claim, make_ready, unpark
from tests.builders import NOW, add_step
from tests.integration.tasks.queue import Queue

# What the queue may still do for others before it serves an owner that just came: the front's turn, and its tie.
GRACE = 2


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def queue(connection: Connection) -> Queue:
    return Queue(connection)


@pytest.mark.parametrize("slots", [1, 4, 32])
def test_ten_thousand_steps_of_one_owner_do_not_delay_another(connection: Connection, queue: Queue, slots: int) -> None:
    first = add_step(connection, queue.task_id, "greedy", priority=10)
    row = dict(connection.execute(select(steps).where(steps.c.id == first)).one()._mapping)
    ids = [f"step_{number:05}" for number in range(10_000)]
    connection.execute(insert(steps), [{**row, "id": step_id, "key": step_id} for step_id in ids])
    for start in range(0, 10_000, 20):
        make_ready(connection, ids[start : start + 20], from_states=["blocked"])
    assert queue.owners(slots) == ["greedy"] * slots
    queue.add("modest", 1)
    assert "modest" in queue.owners(slots + GRACE)


def test_priority_10_overtakes_priority_1_of_the_same_owner(queue: Queue) -> None:
    queue.add("ann", *[1] * 50)
    (urgent,) = queue.add("ann", 10)
    assert _claimed(queue, 1) == [urgent]


def test_priority_says_nothing_between_owners(queue: Queue) -> None:
    queue.add("ann", 1, 1, 1)
    queue.add("bob", 10, 10, 10)
    assert sorted(queue.owners(4)) == ["ann", "ann", "bob", "bob"]


def test_within_a_priority_the_older_step_runs_first(queue: Queue) -> None:
    first = queue.add("ann", 5, 5)
    second = queue.add("ann", 5)
    assert _claimed(queue, 3) == [*first, *second]


def test_steps_of_one_decision_stand_in_different_turns(queue: Queue) -> None:
    queue.add("ann", 1, 1, 1)
    queue.add("bob", 1, 1, 1)
    assert queue.owners(6).count("ann") == 3
    queue.add("ann", 1, 1, 1, 1)
    queue.add("bob", 1)
    assert "bob" in queue.owners(GRACE)


def test_steps_that_become_due_together_are_fair_too(connection: Connection, queue: Queue) -> None:
    """One statement queues them all: an owner's place counts its own steps only."""
    due = NOW - timedelta(seconds=1)
    for owner in [*["greedy"] * 100, "modest"]:
        add_step(connection, queue.task_id, owner, state="ready", not_before=due)
    unpark(connection, now=NOW)
    assert "modest" in queue.owners(GRACE)


def test_a_step_waits_for_not_before_and_gets_its_turn_then(connection: Connection, queue: Queue) -> None:
    waiting = add_step(connection, queue.task_id, state="ready", not_before=NOW + timedelta(seconds=5))
    unpark(connection, now=NOW + timedelta(seconds=4.9))
    assert queue.claim() is None
    unpark(connection, now=NOW + timedelta(seconds=5))
    assert _claimed(queue, 1) == [waiting]


def test_queues_do_not_share_turns(connection: Connection, queue: Queue) -> None:
    queue.add("ann", *[1] * 20)
    elsewhere = add_step(connection, queue.task_id, "ann", queue="agent.design")
    make_ready(connection, [elsewhere], from_states=["blocked"])
    turns = select(steps.c.turn).where(steps.c.id == elsewhere)
    assert connection.execute(turns).scalar_one() == 0


def test_only_steps_in_the_named_state_are_made_ready(queue: Queue, connection: Connection) -> None:
    (step_id,) = queue.add("ann", 1)
    queue.end(step_id)
    assert make_ready(connection, [step_id], from_states=["blocked", "running"]) == []


def test_nobody_starves_while_newcomers_keep_coming(queue: Queue) -> None:
    """A new owner with every claim: the old one gets its share, though each step of it leaves a newcomer more."""
    queue.add("old", *[1] * 12)
    served, claims = 0, 0
    while served < 12:
        queue.add(f"newcomer_{claims}", 10)
        (owner,) = queue.owners(1)
        served += owner == "old"
        claims += 1
        assert claims <= served * (served + 1) + GRACE


@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.lists(st.integers(1, 10), min_size=1, max_size=6)),
            st.just("claim"),
            st.just("end"),
        ),
        min_size=5,
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_shares_are_equal_and_priorities_hold(
    engine: Engine, script: list[tuple[str, list[int]] | str]
) -> None:
    with engine.connect() as connection:
        simulation = Simulation(Queue(connection))
        for event in script:
            if event == "claim":
                simulation.claim()
            elif event == "end":
                simulation.end()
            else:
                simulation.add(event[0], event[1])  # type: ignore[arg-type]  # mypy cannot tell the tuple by exclusion
        while simulation.claim():
            pass


class Simulation:
    """Checks each claim against a model: what each owner has ready, and how often it was served while it had some."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._ready: dict[str, set[tuple[int, str]]] = defaultdict(set)
        self._running: list[str] = []
        # For two owners: how often each was served since both last began to have ready steps.
        self._served: dict[tuple[str, str], int] = {}

    def add(self, owner: str, priorities: list[int]) -> None:
        if not self._ready[owner]:
            self._forget(owner)
        for step_id, priority in zip(self._queue.add(owner, *priorities), priorities, strict=True):
            self._ready[owner].add((-priority, step_id))

    def claim(self) -> bool:
        claim = self._queue.claim()
        waiting = {owner for owner, ready in self._ready.items() if ready}
        if claim is None:
            assert not waiting
            return False
        self._check_choice(claim)
        for other in waiting - {claim.owner}:
            mine = self._served.get((claim.owner, other), 0) + 1
            theirs = self._served.get((other, claim.owner), 0)
            assert mine - theirs <= GRACE, f"{claim.owner} was served {mine} times, {other} {theirs}"
            self._served[claim.owner, other] = mine
        return True

    def end(self) -> None:
        if self._running:
            self._queue.end(self._running.pop(0))

    def _check_choice(self, claim: Claim) -> None:
        best = min(self._ready[claim.owner])
        assert claim.step_id == best[1], "not the owner's most urgent, oldest step"
        self._ready[claim.owner].remove(best)
        self._running.append(claim.step_id)
        if not self._ready[claim.owner]:
            self._forget(claim.owner)

    def _forget(self, owner: str) -> None:
        self._served = {pair: count for pair, count in self._served.items() if owner not in pair}


def _claimed(queue: Queue, count: int) -> list[str]:
    found = [queue.claim() for _ in range(count)]
    return [one.step_id for one in found if one]
