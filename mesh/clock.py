"""Time, passed in: aware instants in UTC, and their one wire format."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def to_wire(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`: `2026-11-22T09:30:00.125Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
