"""The server's secrets, and how they are rotated."""

import pytest

from mesh.errors import ConfigurationError
from mesh.security.keyring import Keyring

OLD, NEW = "v1:" + "o" * 32, "v2:" + "n" * 32


def test_what_an_older_secret_signed_holds_until_it_is_taken_out() -> None:
    digest = Keyring.parse(OLD).sign("key", "text")
    both = Keyring.parse(f"{NEW},{OLD}")
    assert both.newest == "v2"
    assert both.holds("key", "text", digest, "v1")
    assert not both.holds("key", "text", digest, "v2")
    assert not Keyring.parse(NEW).holds("key", "text", digest, "v1")


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    ring = Keyring.parse(NEW)
    assert not ring.holds("cursor", "text", ring.sign("key", "text"), "v2")


@pytest.mark.parametrize("text", ["", " ", "v1", "v1:short", f"{NEW},{NEW}", f"{NEW},", ":" + "x" * 32])
def test_a_keyring_that_cannot_be_read_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Keyring.parse(text)
    assert "n" * 32 not in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")
