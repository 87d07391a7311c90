"""The period of a statistic, cut into whole days and hours, whose sums are stored, and what is left of hours.

mesh.costs.statistics -> here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from mesh.errors import InvalidPeriodError

DEFAULT = timedelta(days=30)
MAX_DAYS = 3_660  # of a series: ten years

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + DEFAULT + _DAY  # what the default can be taken from

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` on, up to and without `end`: `days` and `hours` are whole ones, `edges` what is left."""

    start: datetime
    end: datetime
    days: Sequence[Span]
    hours: Sequence[Span]
    edges: Sequence[Span]

    def __str__(self) -> str:
        """On the wire."""
        return f"{_to_second(self.start)} to {_to_second(self.end)}"

    @property
    def dates(self) -> list[date]:
        """The days (UTC) that it touches."""
        first = self.start.date()
        return [first + timedelta(days=number) for number in range(_days_touched(self.start, self.end))]


def period(start: datetime | None, end: datetime | None, *, now: datetime, daily: bool = False) -> Period:
    """The period asked for; without `end` up to now, without `start` the 30 days before, from the beginning of a day.

    Raises:
        InvalidPeriodError: it ends before it begins, or has too many days for an answer by the day (`daily`).
    """
    # Up to the next full second, which is how it will read, and so with all that has ended just now.
    end = end or now.replace(microsecond=0) + timedelta(seconds=1)
    start = start or _day_of(max(end, _EARLIEST) - DEFAULT)
    if end <= start:
        raise InvalidPeriodError("The period must begin before it ends: give `from` before `to`.")
    if daily and _days_touched(start, end) > MAX_DAYS:
        raise InvalidPeriodError(f"By the day, a period has at most {MAX_DAYS:,} days.")
    days, rest = _cut([(start, end)], _DAY, now)
    hours, edges = _cut(rest, _HOUR, now)
    return Period(start, end, days, hours, edges)


def hour_of(instant: datetime) -> datetime:
    """The beginning of its hour."""
    return instant.replace(minute=0, second=0, microsecond=0)


def _day_of(instant: datetime) -> datetime:
    return hour_of(instant).replace(hour=0)


def _cut(spans: Sequence[Span], unit: timedelta, now: datetime) -> tuple[list[Span], list[Span]]:
    """What is whole units of `spans`, and the rest.  The present unit is whole: all of it that is stored has ended."""
    begin_of = _day_of if unit == _DAY else hour_of
    whole, rest = [], []
    for start, end in spans:
        first = begin_of(start) + (unit if begin_of(start) < start else timedelta(0)) if end - start >= unit else end
        last = end if end >= now else begin_of(end)
        if first < last:
            whole.append((first, last))
            rest += [(start, first), (last, end)]
        else:
            rest.append((start, end))
    return whole, [span for span in rest if span[0] < span[1]]


def _days_touched(start: datetime, end: datetime) -> int:
    """Of a period that is not empty."""
    last = end - timedelta(microseconds=1)
    return (last.date() - start.date()).days + 1


def _to_second(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
