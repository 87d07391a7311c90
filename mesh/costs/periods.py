"""The period of a statistic, cut into whole hours, whose sums are stored, and what is left of hours at its ends."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from mesh.errors import InvalidPeriodError

DEFAULT = timedelta(days=30)
MAX_DAYS = 3_660  # of a series: ten years

_HOUR = timedelta(hours=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + DEFAULT + _HOUR  # what the default can be taken from

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` on, up to and without `end`; `now` is when it is asked for."""

    start: datetime
    end: datetime
    now: datetime

    def __str__(self) -> str:
        """On the wire."""
        return f"{_to_second(self.start)} to {_to_second(self.end)}"

    @property
    def hours(self) -> Span | None:
        """The part that is whole hours; the present hour is one, for all of it that can be stored has ended."""
        if self.end - self.start < _HOUR:
            return None
        start = hour_of(self.start)
        start += _HOUR if start < self.start else timedelta(0)
        end = self.end if self.end >= self.now else hour_of(self.end)
        return (start, end) if start < end else None

    @property
    def edges(self) -> list[Span]:
        """What is left of it."""
        if self.hours is None:
            spans = [(self.start, self.end)]
        else:
            spans = [(self.start, self.hours[0]), (self.hours[1], self.end)]
        return [(start, end) for start, end in spans if start < end]

    @property
    def days(self) -> list[date]:
        """The days (UTC) that it touches."""
        first = self.start.date()
        return [first + timedelta(days=number) for number in range(self._day_count)]

    @property
    def _day_count(self) -> int:
        """Of a period that is not empty."""
        last = self.end - timedelta(microseconds=1)
        return (last.date() - self.start.date()).days + 1

    def check(self, *, daily: bool) -> None:
        """Refuse what cannot be answered; `daily` is asked for by the day.

        Raises:
            InvalidPeriodError: it ends before it begins, or has too many days.
        """
        if self.end <= self.start:
            raise InvalidPeriodError("The period must begin before it ends: give `from` before `to`.")
        if daily and self._day_count > MAX_DAYS:
            raise InvalidPeriodError(f"By the day, a period has at most {MAX_DAYS:,} days.")


def period(start: datetime | None, end: datetime | None, *, now: datetime, daily: bool = False) -> Period:
    """The period asked for; without `end` up to now, without `start` the 30 days before, from the full hour on.

    Raises:
        InvalidPeriodError: it ends before it begins, or has too many days for an answer by the day (`daily`).
    """
    # Up to the next full second, which is how it will read, and so with all that has ended just now.
    end = end or now.replace(microsecond=0) + timedelta(seconds=1)
    found = Period(start or hour_of(max(end, _EARLIEST) - DEFAULT), end, now)
    found.check(daily=daily)
    return found


def hour_of(instant: datetime) -> datetime:
    """The beginning of its hour."""
    return instant.replace(minute=0, second=0, microsecond=0)


def _to_second(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
