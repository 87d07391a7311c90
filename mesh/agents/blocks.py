"""Data inside a prompt: blocks marked with an id that nobody can guess, cleaned of hidden characters and bounded.

agents.prompts -> here.  The same text with the same id always gives the same block.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

BYTES_PER_TOKEN = 4
"""To estimate tokens from UTF-8 bytes. Measured with OpenAI's o200k: prose in five languages and scripts 4.1-7.5, this
project's prompts 4.3-4.7, compact JSON 3.7, HTML 3.2: a bound may be exceeded by a quarter, with HTML alone.
"""

_LINE_BREAKS = re.compile("\r\n?|[\u0085\u2028\u2029]")
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # soft hyphen, fillers, marks of one script
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, bidirectional, annotations
    "\ufe00-\ufe0e\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # variation selectors, music, tag characters
    "\ud800-\udfff"  # lone surrogates, which no provider could be sent
    "]"
)
_ASCII_CONTROLS = dict.fromkeys(character for character in range(128) if _HIDDEN.match(chr(character)))
# Joiners and the emoji selector belong to Persian, Hindi and emoji: one of each may follow a character beyond ASCII.
_JOINERS = re.compile(
    "([^\x00-\x7f\u200c\u200d\ufe0f](?:\ufe0f[\u200c\u200d]?|[\u200c\u200d]))"  # kept
    "|[\u200c\u200d\ufe0f]"
)


def neutralise(text: str) -> str:
    """`text` without characters that a person cannot see but a model reads; line breaks become line feeds.

    Only prompts get this copy: what is stored stays as it was sent.
    """
    if text.isascii():  # a tenth of the time
        return text.replace("\r\n", "\n").replace("\r", "\n").translate(_ASCII_CONTROLS)
    visible = _HIDDEN.sub("", _LINE_BREAKS.sub("\n", text))
    return _JOINERS.sub(r"\1", visible)


def compact_json(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """`value` as JSON in the fewest characters, readable in every script."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def block(label: str, body: str, delimiter: str) -> str:
    """`body` as data named `label`; `delimiter` is random and made after the data, else data could end its block."""
    return f"<<<{label} {delimiter}>>>\n{neutralise(body)}\n<<<end {delimiter}>>>"


def trim(text: str, max_bytes: int) -> str:
    """The beginning of `text` in about `max_bytes` of UTF-8, and a visible mark of how much was left out."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return text
    kept = encoded[: max(max_bytes, 0)].decode("utf-8", "ignore")
    return f"{kept} [... trimmed: {len(text) - len(kept)} of {len(text)} characters left out]"


def trim_fairly(texts: Sequence[str], max_tokens: int) -> list[str]:
    """`texts` in about `max_tokens` together: short ones stay whole, and the long ones share what these leave."""
    sizes = [_size(text) for text in texts]
    left = max_tokens * BYTES_PER_TOKEN
    for position, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - position)
        if size > share:
            return [trim(text, share) for text in texts]
        left -= size
    return list(texts)


def fitting(texts: Iterable[str], max_tokens: int) -> list[str]:
    """The first of `texts` that fit in `max_tokens`; one that does not is passed over for shorter ones behind it."""
    kept, left = [], max_tokens * BYTES_PER_TOKEN
    for text in texts:
        if (size := _size(text)) <= left:
            kept.append(text)
            left -= size
    return kept


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
