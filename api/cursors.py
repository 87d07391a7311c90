"""Cursors: opaque positions in lists that only this service can make.

A cursor names the last id of its page, sealed together with the list that it came from (`scope`): it goes on with
that list and with no other.
"""

from mesh.errors import InvalidCursorError
from mesh.security.keyring import Keyring

_PURPOSE = "cursor"


class Cursors:
    """Cursors sealed under the server's secret."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, position: str, scope: str) -> str:
        """A cursor for going on after `position` in the list that `scope` names."""
        return self._keyring.seal(_PURPOSE, position, scope)

    def open(self, cursor: str, scope: str) -> str:
        """The position that `cursor` was sealed with.

        Raises:
            InvalidCursorError: it was not sealed here, or for another list.
        """
        position = self._keyring.open(_PURPOSE, cursor, scope)
        if position is None:
            raise InvalidCursorError(
                "This cursor is not one of this list with these filters: begin again without a cursor."
            )
        return position
