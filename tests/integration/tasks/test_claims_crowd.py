"""Many claim at once: each step goes to one of them, and none waits for another."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

import pytest
from sqlalchemy import Engine, select, text

from mesh.db.tables import steps
from mesh.tasks.claims import Claim, claim
from tests.builders import NOW, add_ready_steps
from tests.integration.tasks.crowd import claim_all
from tests.integration.tasks.queue import QUEUE, Queue

PROCESSES = 8
STEPS = 6


def claims_at_once(engine: Engine) -> list[Claim]:
    """Eight transactions that stay open until each has claimed; one that would wait for another breaks the test."""
    with ExitStack() as open_transactions:
        found = []
        for number in range(PROCESSES):
            connection = open_transactions.enter_context(engine.begin())
            connection.execute(text("SET LOCAL lock_timeout = 1"))
            found.append(claim(connection, queue=QUEUE, worker_id=f"worker_{number}", now=NOW))
    return [one for one in found if one]


@pytest.mark.parametrize("owners", [1, 3, 100])
def test_a_claim_skips_what_others_are_claiming(engine: Engine, owners: int) -> None:
    with engine.begin() as connection:
        add_ready_steps(connection, Queue(connection).task_id, STEPS, owners=owners, priorities=1)
    claims = claims_at_once(engine)
    assert len({one.step_id for one in claims}) == len(claims) == STEPS


@pytest.mark.parametrize("owners", [1, 3])
def test_claims_that_overtake_never_wait_either(engine: Engine, owners: int) -> None:
    """Each holds two rows until it has committed: the others find less, but the rest is there after it."""
    with engine.begin() as connection:
        add_ready_steps(connection, Queue(connection).task_id, STEPS, owners=owners)
    claims: list[Claim] = []
    while more := claims_at_once(engine):
        claims += more
    assert len({one.step_id for one in claims}) == len(claims) == STEPS


def test_eight_processes_claim_each_step_once(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        add_ready_steps(connection, Queue(connection).task_id, 1_600, owners=2)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.tasks.crowd"])
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        workers = [pool.submit(claim_all, database_url, f"worker_{number}", QUEUE) for number in range(PROCESSES)]
        claimed = [step_id for worker in workers for step_id in worker.result()]
    assert len(claimed) == len(set(claimed)) == 1_600
    with engine.begin() as connection:
        attempts = connection.execute(select(steps.c.state, steps.c.attempt)).all()
        turns = connection.execute(select(steps.c.owner, steps.c.turn)).all()
    assert {tuple(row) for row in attempts} == {("running", 1)}
    assert len(set(turns)) == 1_600, "an owner with a turn twice has more than its share"
