"""Identifiers tell when they were made."""

from datetime import UTC, datetime, timedelta

import pytest

from mesh.ids import first_id, new_id


def test_what_is_made_now_lies_between_the_first_of_before_and_the_first_of_later() -> None:
    now = datetime.now(UTC)
    made = new_id("task")
    assert first_id("task", now - timedelta(seconds=1)) < made < first_id("task", now, plus_seconds=60)
    assert made[:5] == first_id("task", now)[:5]


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_no_instant_is_out_of_range(at: datetime) -> None:
    assert len(first_id("task", at, plus_seconds=60)) == len(new_id("task"))
