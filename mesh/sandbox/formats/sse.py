"""Server-sent events and JSON bytes, as the providers write them."""

import json

from mesh.sandbox.exchange import Json


def encode(value: Json) -> bytes:
    """JSON in UTF-8 without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def data(value: Json) -> bytes:
    """One event that has only data."""
    return b"data: " + encode(value) + b"\n\n"


def event(value: Json) -> bytes:
    """One event that is named by its own `type`."""
    return f"event: {value['type']}\n".encode() + data(value)
