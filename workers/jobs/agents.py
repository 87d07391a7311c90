"""The job of agents' workers: use a permit."""

import structlog
from celery import Celery

from mesh.dispatch.queues import RUN_STEP
from mesh.errors import ContentionError, UnavailableError
from mesh.tasks.execution import Execution

log = structlog.get_logger(__name__)


def register(app: Celery, execution: Execution) -> None:
    """Add the job to `app`."""

    @app.task(name=RUN_STEP)
    def run_step(queue: str, refill: bool = False) -> None:  # Celery passes it by position
        """Run the best ready step of `queue`; a permit that comes to nothing is made up for by the sweep."""
        try:
            execution.serve(queue, refill=refill)
        except (UnavailableError, ContentionError) as error:
            log.warning("permit_unused", queue=queue, reason=str(error))
