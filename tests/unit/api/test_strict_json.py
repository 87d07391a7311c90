"""Strict JSON: what is refused before anything looks at a body."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import MalformedRequestError
from api.strict_json import MAX_DEPTH, check, deeper_than, pointer
from mesh.errors import InvalidInputError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab"\\[{}]é'), inner),
    max_leaves=20,
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.booleans())
def test_json_that_python_writes_passes(value: object, ascii_only: bool) -> None:
    check(json.dumps(value, ensure_ascii=ascii_only).encode())


@given(JSON)
def test_depth_is_counted_as_the_parser_would(value: object) -> None:
    data = json.dumps(value).encode()
    depth = _depth(value)
    assert not deeper_than(data, depth)
    assert depth == 0 or deeper_than(data, depth - 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} x',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"a": "\n"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 01}',
        b"9" * 5_000,
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "\\u0061": 2}}',
        b'"\xed\xa0\x80"',
        b'{"a": "\x00"}',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * 100_000,
        b'"\\',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_strict_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        check(body)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (rb'{"a": ["x", "\u0000"]}', "/a/1"),
        (rb'{"a": {"b": "\ud800"}}', "/a/b"),
        (rb'{"a": {"\udfff": 1}}', "/a"),
        (rb'{"a/b~": "\udc00\ud800"}', "/a~1b~0"),
        (rb'"\u0000"', ""),
    ],
)
def test_characters_that_cannot_be_stored_are_named(body: bytes, at: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check(body)
    assert [problem.pointer for problem in caught.value.problems] == [at]


def test_surrogate_pairs_are_characters() -> None:
    check(rb'{"a": "\ud83d\ude00"}')


@pytest.mark.parametrize("unit", [b'\\"', b'"', b"[]", b"{", b'"\\', b"]", b'"["'])
def test_a_megabyte_of_anything_takes_linear_time(unit: bytes) -> None:
    body = b"[]" * (MAX_DEPTH + 1) + b'"' + unit * (1_000_000 // len(unit))
    started = time.process_time()
    deeper_than(body, MAX_DEPTH)
    assert time.process_time() - started < 2  # quadratic would be hours


def test_long_names_are_cut_in_pointers() -> None:
    assert len(pointer("a", "b" * 10_000)) < 110
