"""Strict JSON: what RFC 8259 leaves open is refused here, before anything looks at a body.

Depth is settled on the bytes, so that no parser recurses into a bomb.  Then: one value a key, finite numbers,
UTF-8, no NUL and no half of a surrogate pair, neither of which PostgreSQL can store.
"""

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any

from api.errors import MalformedRequestError
from mesh.errors import InvalidInputError, Problem

MAX_DEPTH = 32  # the deepest request: 8 levels of context inside of what is around it

# A string (to the end when it is never closed, so that every byte is looked at once), or a run of brackets.
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check(body: bytes) -> None:
    """Pass a body that is one strict JSON value.

    Raises:
        MalformedRequestError: it is not.
        InvalidInputError: it is, but holds characters that cannot be stored; names where.
    """
    if deeper_than(body, MAX_DEPTH):
        raise MalformedRequestError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        value = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"The body is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise MalformedRequestError(f"The body is not JSON: {error.msg} (character {error.pos}).") from None
    except ValueError:  # int() refuses more than some thousand digits
        raise MalformedRequestError("The body holds a number with too many digits.") from None
    if b"\\u" in body:  # only an escape can hold them: as bytes they are not JSON, or not UTF-8
        problems = [Problem(pointer, "forbidden_character", _FORBIDDEN) for pointer in _unstorable(value, "")]
        if problems:
            raise InvalidInputError("The body holds characters that cannot be stored.", problems[:20])


def deeper_than(body: bytes, levels: int) -> bool:
    """Whether objects and arrays nest deeper than `levels` in this JSON; linear, and stops at the first that does."""
    if body.count(b"{") + body.count(b"[") <= levels:
        return False
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(body):
        token = match[0]
        if token[0] in b"[{":
            depth += len(token)
            if depth > levels:
                return True
        elif token[0] in b"]}":
            depth -= len(token)
    return False


def pointer(*tokens: object) -> str:
    """A JSON Pointer (RFC 6901); very long names of members are cut, since they may be the refused text itself."""
    return "".join("/" + str(token)[:100].replace("~", "~0").replace("/", "~1") for token in tokens)


_FORBIDDEN = "NUL and unpaired surrogates cannot be stored: leave them out."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedRequestError("An object in the body has two members of the same name.")
    return members


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise MalformedRequestError("A number in the body is too large.")
    return number


def _constant(name: str) -> float:
    raise MalformedRequestError(f"The body is not JSON: {name} is not a number there.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant)


def _unstorable(value: object, at: str) -> Iterator[str]:
    """Where forbidden characters are; for those in a member's name, the object."""
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield at
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, at + pointer(index))
    elif isinstance(value, dict):
        for name, member in value.items():
            if _UNSTORABLE.search(name):
                yield at
            else:
                yield from _unstorable(member, at + pointer(name))
