"""How soon what a worker had begun that died is there for others."""

from tests.integration.workers.conftest import Fleet
from tests.system import eventually

# The last renewal was up to 2 s ago; 5 s without one, and a sweep every 2 s.
MOST_SECONDS = 9.0


def test_a_killed_workers_step_is_given_back_long_before_its_lease_would_have_ended(fleet: Fleet) -> None:
    """Its session ended with it."""
    worker = fleet.worker()
    fleet.serving(worker, fleet.beat())
    fleet.sandbox.fault("hang")
    fleet.submit(fleet.network())
    eventually(fleet.sandbox.calls, every=0.02)
    fleet.kill(worker)
    eventually(lambda: fleet.rows("SELECT 1 FROM steps WHERE state = 'ready'"), MOST_SECONDS, every=0.05)
