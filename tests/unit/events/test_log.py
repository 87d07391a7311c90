"""Numbers of events: dense, in their order, however the events are split into commits."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mesh.events.log import Batch, StoredEvent
from mesh.events.types import Complete, Event, Paused, Started

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = st.one_of(
    st.builds(Started, st.just("processing"), st.integers(1, 9)),
    st.builds(Paused, st.text()),
    st.builds(Complete, st.just("completed")),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=5), max_size=8))
def test_any_split_into_commits_numbers_the_same_events_the_same(commits: list[list[Event]]) -> None:
    stored: list[StoredEvent] = []
    for commit in commits:
        stored += Batch("task_1", commit, at=NOW).stored("network_1", before=len(stored))
    everything = [event for commit in commits for event in commit]
    assert [one.sequence for one in stored] == list(range(1, len(everything) + 1))
    assert [(one.type, one.data["sequence"]) for one in stored] == [
        (event.type, number) for number, event in enumerate(everything, 1)
    ]
    assert all(one.data.items() >= event.fields().items() for one, event in zip(stored, everything, strict=True))


@given(st.lists(EVENTS, min_size=1))
def test_as_many_numbers_are_taken_as_events_are_stored(events: list[Event]) -> None:
    values = Batch("task_1", events, at=NOW).values()
    assert values["count"] == len(events)
