"""Periods: whole hours and what is left of them are the whole, once."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.costs.periods import period
from mesh.errors import InvalidPeriodError

NOW = datetime(2026, 11, 22, 9, 30, 0, 125_000, tzinfo=UTC)
HOUR = timedelta(hours=1)

INSTANTS = st.datetimes(datetime(2026, 11, 20), datetime(2026, 11, 24), timezones=st.just(UTC)).flatmap(  # noqa: DTZ001  # UTC follows
    lambda any_: st.sampled_from([any_, any_.replace(minute=0, second=0, microsecond=0)])
)


@given(INSTANTS, INSTANTS)
def test_days_hours_and_edges_together_are_the_period(one: datetime, other: datetime) -> None:
    start, end = sorted((one, other))
    if start == end:
        return
    asked = period(start, end, now=NOW)
    parts = sorted([*asked.days, *asked.hours, *asked.edges])
    assert parts[0][0] == start
    assert parts[-1][1] == end
    assert all(first[1] == second[0] for first, second in pairwise(parts))
    assert all(begun < ended for begun, ended in parts)


@given(INSTANTS, INSTANTS)
def test_days_and_hours_are_whole_unless_they_are_not_over(one: datetime, other: datetime) -> None:
    if one == other:
        return
    asked = period(min(one, other), max(one, other), now=NOW)
    for seconds, spans in ((86_400, asked.days), (3_600, asked.hours)):
        for begun, ended in spans:
            assert begun.timestamp() % seconds == 0
            assert ended.timestamp() % seconds == 0 or ended >= NOW


def test_nothing_of_the_default_is_left_beside_whole_days() -> None:
    asked = period(None, None, now=NOW)
    assert (asked.hours, asked.edges) == ([], [])


def test_it_reads_to_the_second_and_includes_the_present_one() -> None:
    assert str(period(None, None, now=NOW)) == "2026-10-23T00:00:00Z to 2026-11-22T09:30:01Z"


def test_days_are_those_it_touches() -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert period(midnight, midnight + HOUR, now=NOW).dates == [date(2026, 11, 22)]
    assert period(midnight - HOUR, midnight, now=NOW).dates == [date(2026, 11, 21)]
    assert len(period(midnight - HOUR, midnight + HOUR, now=NOW).dates) == 2


def test_only_by_the_day_is_a_period_limited() -> None:
    long = NOW - timedelta(days=4_000)
    assert period(long, None, now=NOW).start == long
    with pytest.raises(InvalidPeriodError, match="3,660 days"):
        period(long, None, now=NOW, daily=True)
