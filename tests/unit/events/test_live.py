"""The message that carries a commit's events."""

import json

import pytest
from flask_sse import Message
from hypothesis import given
from hypothesis import strategies as st

from mesh.events.live import decode, encode
from mesh.events.log import StoredEvent

EVENTS = st.lists(
    st.builds(
        StoredEvent,
        st.integers(1, 2**31 - 1),
        st.text(min_size=1),
        st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
    ),
    min_size=1,
)


@given(EVENTS)
def test_what_is_published_arrives_unchanged(events: list[StoredEvent]) -> None:
    assert decode(encode(events).encode()) == events


@given(EVENTS)
def test_a_message_holds_what_flask_sse_publishes(events: list[StoredEvent]) -> None:
    for one, event in zip(json.loads(encode(events)), events, strict=True):
        assert Message(**one).to_dict() == {"data": event.data, "type": event.type, "id": event.sequence}


@pytest.mark.parametrize(
    "message", [b"", b"x", b"\xff", b"7", b"{}7", b"[7]", b'[{"id": 1}]', b'[{"id": "x", "type": "", "data": {}}]']
)
def test_what_is_no_list_of_events_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own errors are ValueErrors too
        decode(message)
