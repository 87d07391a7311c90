"""The system's own jobs: what beat schedules is there to be run, and runs what it says."""

from typing import Any, cast

from celery import Celery

from mesh.costs.rollup import Rollup
from mesh.dispatch.queues import CONTROL
from mesh.generate.views import TIMEOUT_SECONDS
from mesh.retention.purge import Purge
from workers.jobs import control


class Ran:
    """A job that counts."""

    def __init__(self) -> None:
        self.times = 0

    def run(self) -> int:
        self.times += 1
        return 0


def test_a_job_outlasts_generations_that_hold_every_slot() -> None:
    jobs: dict[str, dict[str, Any]] = control.SCHEDULE
    assert all(job["options"]["expires"] > TIMEOUT_SECONDS for job in jobs.values())


def test_every_scheduled_job_is_registered_and_runs_its_own_work() -> None:
    app, purge, rollup = Celery("test"), Ran(), Ran()
    control.register(app, cast(Purge, purge), cast(Rollup, rollup))
    jobs: dict[str, dict[str, Any]] = control.SCHEDULE
    assert {job["options"]["queue"] for job in jobs.values()} == {CONTROL}
    app.tasks[jobs["roll-up-calls"]["task"]]()
    assert (purge.times, rollup.times) == (0, 1)
    app.tasks[jobs["purge-networks"]["task"]]()
    assert (purge.times, rollup.times) == (1, 1)
