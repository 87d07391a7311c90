"""What an API key looks like."""

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mesh.ids import new_id
from mesh.security.token import USER_ID, key_id_of, new_key, redact

AT = datetime(2026, 11, 22, tzinfo=UTC)


@given(st.from_regex(USER_ID, fullmatch=True))
def test_a_key_names_its_row_whatever_the_user_is_called(user_id: str) -> None:
    key_id = new_id("key")
    key = new_key(user_id, key_id, AT)
    assert key_id_of(key) == key_id
    assert key.rsplit(".", 2)[:2] == [user_id, str(int(AT.timestamp()))]


def test_a_key_holds_at_least_190_random_bits() -> None:
    key_id = new_id("key")
    secret = new_key("ann", key_id, AT).rpartition(".")[2][26:-8]
    assert re.fullmatch(r"[0-9a-f]{48}", secret)
    assert len({new_key("ann", key_id, AT) for _ in range(100)}) == 100


def test_a_mistyped_or_cut_key_is_known_without_asking() -> None:
    key = new_key("ann", new_id("key"), AT)
    swapped = key[:-20] + ("1" if key[-20] == "0" else "0") + key[-19:]
    for wrong in (swapped, key[:-1], key + "0", key.replace("ann", "bob"), "", "a.b.c", key + "\n", "\0" + key):
        assert key_id_of(wrong) is None


def test_keys_are_struck_out_of_texts() -> None:
    key = new_key("ann.b@example.org", new_id("key"), AT)
    assert redact(f"DELETE /keys/{key} failed") == "DELETE /keys/[api key] failed"
    assert redact("version 1.2.3 of a.b") == "version 1.2.3 of a.b"
