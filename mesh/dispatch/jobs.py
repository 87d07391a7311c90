"""Jobs: Celery messages that carry what they are about, for work that nothing remembers when it is lost.

mesh.generate -> here -> a worker.  Unlike permits, sending one fails loudly: somebody waits for it.
"""

from collections.abc import Mapping
from typing import Any

from mesh.dispatch.permits import BROKER_ERRORS, producer
from mesh.errors import UnavailableError


class Jobs:
    """Sends jobs to Celery's broker."""

    def __init__(self, broker_url: str, *, timeout_seconds: float | None = None) -> None:
        self._celery = producer("mesh-jobs", broker_url, timeout_seconds=timeout_seconds)

    def send(self, name: str, payload: Mapping[str, Any], *, queue: str, expires_seconds: float) -> None:
        """Put the job `name` into `queue`; no worker begins it later than `expires_seconds` from now.

        Raises:
            UnavailableError: the broker did not take it in 2 s, or what was given.
        """
        try:
            self._celery.send_task(
                name,
                kwargs=dict(payload),
                queue=queue,
                expires=expires_seconds,
                ignore_result=True,
                kwargsrepr="...",  # what Celery shows of a job in its logs, which are not for prompts
            )
        except BROKER_ERRORS as error:
            raise UnavailableError("The broker does not answer; try again shortly.") from error
