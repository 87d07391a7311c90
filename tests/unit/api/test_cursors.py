"""Cursors belong to this service and to one list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import Cursors
from mesh.errors import InvalidCursorError
from mesh.security.keyring import Keyring

OLD, NEW = "v1:" + "o" * 32, "v2:" + "n" * 32
CURSORS = Cursors(Keyring.parse(OLD))


@given(st.text(), st.text())
def test_a_cursor_opens_to_what_was_sealed(position: str, scope: str) -> None:
    assert CURSORS.open(CURSORS.seal(position, scope), scope) == position


def test_a_cursor_survives_the_rotation_of_secrets_until_the_old_one_is_gone() -> None:
    cursor = CURSORS.seal("x", "list")
    assert Cursors(Keyring.parse(f"{NEW},{OLD}")).open(cursor, "list") == "x"
    with pytest.raises(InvalidCursorError):
        Cursors(Keyring.parse(NEW)).open(cursor, "list")


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_what_was_not_made_here_is_refused(forged: str) -> None:
    with pytest.raises(InvalidCursorError):
        CURSORS.open(forged, "list")


def test_a_cursor_is_refused_by_another_list_and_when_changed() -> None:
    cursor = CURSORS.seal("network_1", "list")
    with pytest.raises(InvalidCursorError):
        CURSORS.open(cursor, "another list")
    for index in range(len(cursor) - 1):  # the last character has bits that mean nothing
        changed = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        with pytest.raises(InvalidCursorError):
            CURSORS.open(changed, "list")
