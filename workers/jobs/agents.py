"""The job of agents' workers: use a permit."""

from celery import Celery

from mesh.dispatch.queues import RUN_STEP
from mesh.tasks.execution import Execution


def register(app: Celery, execution: Execution) -> None:
    """Add the job to `app`."""

    @app.task(name=RUN_STEP)
    def run_step(queue: str, refill: bool = False) -> None:  # Celery passes it by position
        """Run the best ready step of `queue`."""
        execution.serve(queue, refill=refill)
