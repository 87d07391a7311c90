"""What a server that is killed may not forget, on one that is as durable as a user's."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.db import engine as engines
from mesh.db.migrate import upgrade
from mesh.db.unit_of_work import Database
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.tasks.claims import Claim, claim
from mesh.tasks.states import StepState
from tests.integration.tasks.core import Core, until


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(lambda _: None) as supervisor:
        yield supervisor


@pytest.fixture
def core(supervisor: Supervisor, tmp_path: Path) -> Iterator[Core]:
    """A core on a server of its own, connected as a worker is."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    postgres = Postgres(home)
    postgres.prepare()
    supervisor.add(postgres.part())
    supervisor.wait_ready()
    upgrade(postgres.url)
    engine = engines.create(postgres.url, name="test", prepared_only=True)
    yield Core(engine)
    engine.dispose()


def claimed(core: Core, worker_id: str) -> Claim | None:
    """As `Execution` does it."""
    with core.database.begin(atomic=False) as work:
        return claim(work.connection, queue="agent.coordinator", worker_id=worker_id, now=core.clock())


def kill_postgres(supervisor: Supervisor, database: Database) -> None:
    """Kill (-9) the server, and return when its successor answers."""
    pid = supervisor.pid("postgres")
    assert pid
    os.kill(pid, signal.SIGKILL)
    database.engine.dispose(close=False)
    until(lambda: supervisor.pid("postgres") not in (pid, None))
    supervisor.wait_ready()


def test_no_two_workers_get_the_same_attempt_though_the_server_is_killed_right_after_a_claim(
    core: Core, supervisor: Supervisor
) -> None:
    """The attempt is the fence: two that share it would both ask a model, and both be paid."""
    core.submit(core.network())
    first = claimed(core, "worker_1")
    kill_postgres(supervisor, core.database)
    assert first is not None
    assert claimed(core, "worker_2") is None
    step = core.step(first.step_id)
    assert (step.state, step.worker_id, step.attempt) == (StepState.RUNNING, "worker_1", first.attempt)
