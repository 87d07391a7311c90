"""Health: what is answered to anybody, and what to administrators."""

from typing import Any, Literal

from api.schemas.base import Answer, Instant


class Status(Answer):
    """Enough to know whether to ask at all."""

    status: Literal["healthy", "degraded", "unhealthy"]


class Report(Status):
    """The state of every part."""

    components: dict[str, Any]
    active_networks_count: int
    active_tasks_count: int
    version: str
    timestamp: Instant
