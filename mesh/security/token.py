"""What an API key looks like: made, recognised and struck out of texts, without asking anybody; and tickets likewise.

    <user_id>.<issued_at_unix>.<token>      token = public key id (26), secret (48: 192 random bits), checksum (8)

The checksum refuses a mistyped or cut key without a query, and lets scanners know one when they see it.
"""

import re
import secrets
import zlib
from datetime import datetime

USER_ID = r"[A-Za-z0-9][A-Za-z0-9._@+:|-]{0,127}"  # what may stand in a header and in a path

_ISSUED_AND_TOKEN = r"[0-9]{1,12}\.[0-9a-z]{26}[0-9a-f]{48}[0-9a-f]{8}"  # noqa: S105  # a pattern
_KEY = re.compile(rf"{USER_ID}\.{_ISSUED_AND_TOKEN}")
TICKET = "ticket_"
_TICKET = re.compile(rf"{TICKET}[A-Za-z0-9_-]{{40,}}")
_TOKEN_LENGTH = 26 + 48 + 8


def new_key(user_id: str, key_id: str, issued_at: datetime) -> str:
    """A fresh key for the row `key_id` (`key_<ulid>`)."""
    body = f"{user_id}.{int(issued_at.timestamp())}.{key_id.removeprefix('key_')}{secrets.token_hex(24)}"
    return body + _checksum(body)


def key_id_of(key: str) -> str | None:
    """The id of the row that `key` would be verified against; None when it cannot be a key of this service."""
    if not _KEY.fullmatch(key) or _checksum(key[:-8]) != key[-8:]:
        return None
    return f"key_{key[-_TOKEN_LENGTH:][:26]}"


def redact(text: str) -> str:
    """`text` with every API key and ticket in it struck out, for errors and logs."""
    return _TICKET.sub("[ticket]", _KEY.sub("[api key]", text))


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
