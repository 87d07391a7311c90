"""The threads that keep a process's lease: what they may not take for lost, and how they begin and end."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from mesh import clock
from mesh.db import engine as engines
from mesh.db.leader import SWEEP, SessionLock
from mesh.db.migrate import upgrade
from mesh.db.unit_of_work import Database
from mesh.embedded.postgres import Postgres
from mesh.embedded.supervisor import Supervisor
from mesh.tasks.execution import InFlight
from mesh.tasks.leases import Holder, Leases, Renewal
from mesh.tasks.sweep import Sweep
from tests.integration.tasks.core import WORKER, Core
from tests.integration.workers.conftest import fleet_on
from tests.sandbox import Sandbox
from tests.system import eventually
from workers.heartbeat import Heart

HOLDER = Holder(WORKER, "worker", "host", 1, ("agent.coordinator",), 8)


@pytest.fixture
def heart(core: Core, engine: Engine) -> Iterator[Callable[..., Heart]]:
    """`heart(...)` makes one that beats fast, of the parts given and usual ones; it is stopped when the test ends."""
    made: list[Heart] = []

    def make(
        leases: Leases | None = None,
        leadership: SessionLock | None = None,
        in_flight: InFlight | None = None,
        sweep: Sweep | None = None,
        refresh: Callable[[], None] | None = None,
    ) -> Heart:
        made.append(
            Heart(
                HOLDER,
                leases or Leases(core.database, core.clock),
                life=SessionLock(engine, WORKER),
                leadership=leadership or SessionLock(engine, SWEEP),
                sweep=sweep or Sweep(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock),
                in_flight=in_flight,
                refresh=refresh,
                every_seconds=0.05,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_what_was_claimed_while_the_lease_was_being_renewed_is_not_given_back(
    core: Core, heart: Callable[..., Heart]
) -> None:
    """The renewal took so long that the claim counts as old."""
    core.submit(core.network())
    in_flight = InFlight()

    class SlowLeases(Leases):
        renewals = 0

        def renew(self, holder: Holder, running: Sequence[tuple[str, int]], *, locked: bool = False) -> Renewal:
            self.renewals += 1
            if self.renewals == 2:
                in_flight.add(core.claim())
                core.clock.advance(10)
            return super().renew(holder, running, locked=locked)

    leases = SlowLeases(core.database, core.clock)
    heart(leases, in_flight=in_flight).start(unless=threading.Event())
    eventually(lambda: leases.renewals >= 4, every=0.01)
    ((step_id, attempt),) = in_flight.present()
    assert (core.step(step_id).state, core.step(step_id).attempt) == ("running", attempt)


def test_one_thread_alone_uses_the_session_that_leads(engine: Engine, heart: Callable[..., Heart]) -> None:
    """Psycopg lets threads share a connection, but a session that one of them closes is gone for the other."""

    class Watched(SessionLock):
        def __init__(self) -> None:
            super().__init__(engine, SWEEP)
            self.users: list[threading.Thread] = []

        def held(self) -> bool:
            self.users.append(threading.current_thread())
            return super().held()

        def resign(self) -> None:
            self.users.append(threading.current_thread())
            super().resign()

    leadership = Watched()
    leader = heart(leadership=leadership)
    leader.start(unless=threading.Event())
    eventually(lambda: leadership.users, every=0.01)
    leader.stop()
    assert {user.name for user in leadership.users} == {"sweep"}
    other = SessionLock(engine, SWEEP)
    eventually(other.held, 2, every=0.01)
    other.resign()


def test_a_worker_says_with_its_first_lease_that_it_holds_its_lock(core: Core, heart: Callable[..., Heart]) -> None:
    heart().start(unless=threading.Event())
    with core.database.begin() as work:
        assert work.connection.execute(text("SELECT locked FROM workers")).scalars().all() == [True]


def test_what_is_brought_up_to_date_beside_the_sweep_costs_no_sweep_when_it_fails(
    core: Core, heart: Callable[..., Heart]
) -> None:
    class Counted(Sweep):
        runs = 0

        def run(self, *, reclaim: bool = True) -> None:
            self.runs += 1
            super().run(reclaim=reclaim)

    def broken() -> None:
        raise ValueError

    sweep = Counted(core.database, core.orchestrator, core.dispatcher, core.wakeups, core.clock)
    heart(sweep=sweep, refresh=broken).start(unless=threading.Event())
    eventually(lambda: sweep.runs >= 2, every=0.01)


def test_a_lease_can_be_given_up_before_it_was_taken(heart: Callable[..., Heart]) -> None:
    """A process may be told to end while it still waits for the database."""
    away = engines.create("postgresql://mesh@127.0.0.1:1/mesh", name="test")
    ended = threading.Event()
    waiting = heart(Leases(Database(away), clock.now))
    threading.Timer(0.2, ended.set).start()
    waiting.start(unless=ended)
    assert ended.is_set()
    waiting.stop()


@pytest.fixture
def absent(tmp_path: Path) -> Postgres:
    """A Postgres with the newest schema, which does not run."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    postgres = Postgres(home, durable=False)
    postgres.prepare()
    with Supervisor() as supervisor:
        supervisor.add(postgres.part())
        supervisor.wait_ready()
        upgrade(postgres.url)
    return postgres


def test_a_worker_that_gets_ready_while_postgres_is_away_serves_when_it_is_back(
    absent: Postgres, redis_flushed: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """And one that is told to end meanwhile does."""
    with fleet_on(absent.url, redis_flushed, sandbox, tmp_path) as fleet:
        worker, other = fleet.worker(), fleet.worker("--control")
        fleet.logged(other, "lease_not_taken")
        other.terminate()
        assert other.wait(timeout=10) == 0, fleet.log(other)
        fleet.logged(worker, "lease_not_taken")
        with Supervisor() as supervisor:
            supervisor.add(absent.part())
            supervisor.wait_ready()
            fleet.serving(worker)
            network_id = fleet.network()
            assert fleet.ended(network_id, fleet.submit(network_id)).status == "completed"
            fleet.kill(worker)
