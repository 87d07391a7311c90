"""The job of direct generation, on `mesh.generate`."""

from typing import Any

from celery import Celery

from mesh.generate.runner import Generator
from mesh.generate.service import GENERATE_JOB
from mesh.generate.views import Job


def register(app: Celery, generator: Generator) -> None:
    """Add the job to `app`."""

    @app.task(name=GENERATE_JOB)
    def generate(**payload: Any) -> None:  # noqa: ANN401  # JSON
        """Generate, and stream to whoever waits for it."""
        generator.run(Job.from_json(payload))
