"""Jobs of the system itself, on `mesh.control`; beat schedules them."""

from celery import Celery

from mesh.dispatch.queues import CONTROL
from mesh.retention.purge import Purge

PURGE = "mesh.purge_networks"

SCHEDULE = {
    # Deleted networks are invisible at once; what belonged to them may take its time.
    "purge-networks": {"task": PURGE, "schedule": 30.0, "options": {"queue": CONTROL, "expires": 30}},
}


def register(app: Celery, purge: Purge) -> None:
    """Add the jobs to `app`."""

    @app.task(name=PURGE)
    def purge_networks() -> None:
        """Remove what belongs to deleted networks."""
        purge.run()
