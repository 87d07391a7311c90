"""Which hosts can only mean this machine."""

import pytest

from mesh.security.loopback import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "192.0.2.1", "::", "10.0.0.1", "example.org", "localhost.example.org", "127.0.0.1.example.org"]
)
def test_anything_else_is_not(host: str) -> None:
    assert not is_loopback(host)
