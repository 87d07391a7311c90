"""Counting requests, for statistics: by user, hour and route class, in memory, and now and then in the database.

after_request -> here -> mesh.costs.statistics.  Best effort: what is counted while the database is away is stored when
it is back, and what a killed process had counted in its last seconds is lost.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import gevent
import structlog
from flask import Flask, Response, g, request
from gevent.lock import BoundedSemaphore

from mesh import clock
from mesh.costs.periods import hour_of
from mesh.errors import ContentionError, UnavailableError
from mesh.security.policy import RouteClass, route_class

if TYPE_CHECKING:
    from mesh.bootstrap import Mesh

STORE_SECONDS = 10.0

log = structlog.get_logger(__name__)

Counts = Counter[tuple[datetime, str, RouteClass]]


class Requests:
    """Counts, and the greenlet that stores them; it starts with the first request, so after a server has forked."""

    def __init__(
        self, store: Callable[[Counts], None], clock: clock.Clock, *, every_seconds: float = STORE_SECONDS
    ) -> None:
        self._store = store
        self._clock = clock
        self._every_seconds = every_seconds
        self._counts: Counts = Counter()
        self._storing = BoundedSemaphore()
        self._started = False

    def count(self, user_id: str, kind: RouteClass) -> None:
        """Count a request."""
        self._counts[hour_of(self._clock()), user_id, kind] += 1
        if not self._started:
            self._started = True
            gevent.spawn(self._forever)

    def flush(self) -> None:
        """Store what was counted, and return when all of it is stored; while the database is away it is kept."""
        with self._storing:
            counts, self._counts = self._counts, Counter()
            try:
                if counts:
                    self._store(counts)
            except (UnavailableError, ContentionError) as error:
                self._counts.update(counts)
                log.warning("requests_not_stored", reason=str(error))

    def _forever(self) -> None:
        while True:
            gevent.sleep(self._every_seconds)
            try:
                self.flush()
            except Exception:  # one fault must not end the counting
                log.exception("requests_lost")


def install(app: Flask, mesh: "Mesh") -> Requests:
    """Count the requests to `app` whose callers are known, however they are answered."""
    requests = Requests(mesh.statistics.add_requests, clock.now)
    app.extensions["requests"] = requests

    def count(response: Response) -> Response:
        if (principal := g.get("principal")) is not None and request.endpoint:
            requests.count(principal.user_id, route_class(request.endpoint, request.method))
        return response

    app.after_request(count)
    return requests
