"""Cursors: opaque positions in lists that only this service can make.

A cursor names the last id of its page, signed together with the list that it came from (`scope`): it goes on with
that list and with no other.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from mesh.errors import InvalidCursorError
from mesh.security.keyring import Keyring

_PURPOSE = "cursor"
_REFUSED = "This cursor is not one of this list with these filters: begin again without a cursor."


class Cursors:
    """Cursors signed under the server's secret."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, position: str, scope: str) -> str:
        """A cursor for going on after `position` in the list that `scope` names."""
        version = self._keyring.newest
        digest = self._keyring.sign(_PURPOSE, f"{position}\0{scope}")
        return urlsafe_b64encode(digest + f"{version} {position}".encode()).decode().rstrip("=")

    def open(self, cursor: str, scope: str) -> str:
        """The position that `cursor` was sealed with.

        Raises:
            InvalidCursorError: it was not sealed here, or for another list.
        """
        try:
            data = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            version, _, position = data[32:].decode().partition(" ")
        except ValueError:
            raise InvalidCursorError(_REFUSED) from None
        if not self._keyring.holds(_PURPOSE, f"{position}\0{scope}", data[:32], version):
            raise InvalidCursorError(_REFUSED)
        return position
