"""Jobs of the system itself, on `mesh.control`; beat schedules them."""

from celery import Celery

from mesh.costs.rollup import Rollup
from mesh.dispatch.queues import CONTROL
from mesh.generate.views import TIMEOUT_SECONDS
from mesh.retention.purge import Purge

PURGE = "mesh.purge_networks"
ROLLUP = "mesh.roll_up_calls"

# Generations may hold all of a worker's slots for so long; the next one that is free is for these jobs' queue.
_EXPIRES = {"queue": CONTROL, "expires": TIMEOUT_SECONDS + 30}

SCHEDULE = {
    # Deleted networks are invisible at once; what belonged to them may take its time.
    "purge-networks": {"task": PURGE, "schedule": 30.0, "options": _EXPIRES},
    # Statistics read single calls until they are rolled up: few enough in five minutes.
    "roll-up-calls": {"task": ROLLUP, "schedule": 300.0, "options": _EXPIRES},
}


def register(app: Celery, purge: Purge, rollup: Rollup) -> None:
    """Add the jobs to `app`."""

    @app.task(name=PURGE)
    def purge_networks() -> None:
        """Remove what belongs to deleted networks."""
        purge.run()

    @app.task(name=ROLLUP)
    def roll_up_calls() -> None:
        """Close the books of calls that ended a while ago."""
        rollup.run()
