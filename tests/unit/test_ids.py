"""Identifiers tell when they were made."""

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest

from mesh import ids
from mesh.ids import first_id, new_id


def test_what_is_made_now_lies_between_the_first_of_before_and_the_first_of_later() -> None:
    now = datetime.now(UTC)
    made = new_id("task")
    assert first_id("task", now - timedelta(seconds=1)) < made < first_id("task", now, plus_seconds=60)
    assert made[:5] == first_id("task", now)[:5]


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_no_instant_is_out_of_range(at: datetime) -> None:
    assert len(first_id("task", at, plus_seconds=60)) == len(new_id("task"))


def test_forked_processes_make_identifiers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids._GENERATOR, "clock", lambda: 1_800_000_000_000)  # all in one millisecond
    made = [new_id("task")]
    for _ in range(2):
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
            made.append(child.submit(new_id, "task").result())
    made.append(new_id("task"))
    assert len(set(made)) == 4
