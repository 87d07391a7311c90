"""Whatever schema is asked for is answered with an instance that validates."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.sandbox.exchange import BadRequestError
from mesh.sandbox.schema_instance import instance
from tests.sandbox import assert_valid

NAMES = st.sampled_from(["title", "count", "tags", "owner", "state"])
SCALARS = st.one_of(
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 1}, st.integers(-5, 5)),
    st.builds(lambda step: {"type": "integer", "minimum": 3, "multipleOf": step}, st.integers(1, 7)),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(max_size=5) | st.integers(), min_size=1)),
    st.builds(lambda value: {"const": value}, st.text(max_size=5)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}]),
)


def _composed(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(NAMES, children, max_size=4)
    return st.one_of(
        properties.map(
            lambda each: {"type": "object", "properties": each, "required": [*each], "additionalProperties": False}
        ),
        properties.map(lambda each: {"type": "object", "properties": each, "required": [*each][:1]}),
        st.builds(
            lambda item, low: {"type": "array", "items": item, "minItems": low, "maxItems": low + 2},
            children,
            st.integers(0, 3),
        ),
        st.lists(children, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    )


SCHEMAS = st.recursive(SCALARS, _composed, max_leaves=12)
DRAFTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS)
def test_an_instance_validates(schema: dict[str, Any]) -> None:
    assert_valid(json.dumps(instance(schema)), schema)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, DRAFTS)
def test_an_instance_validates_whatever_the_draft(schema: dict[str, Any], draft: object) -> None:
    assert_valid(json.dumps(instance(schema, draft)), schema)


def test_a_draft_that_fits_is_kept() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "number"}, "tags": {"type": "array"}},
        "required": ["name", "size", "tags"],
    }
    draft = {"name": "Ann", "size": 0.5, "tags": ["a", "b"]}
    assert instance(schema, draft) == draft


def test_a_draft_adds_no_field_that_the_schema_does_not_have() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert instance(schema, {"a": "x", "invented": 1}) == {"a": "x"}


def test_recursive_references_come_to_an_end() -> None:
    schema = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "children", "parent"],
                "additionalProperties": False,
            }
        },
    }
    assert_valid(json.dumps(instance(schema)), schema)


def test_all_of_is_merged() -> None:
    parts = [{"properties": {"b": {"type": "integer"}}, "required": ["b"]}]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "allOf": parts}
    assert_valid(json.dumps(instance(schema)), schema)


def test_types_in_capitals_are_understood() -> None:
    """Gemini's older `responseSchema` writes them so."""
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}, "required": ["n"]}
    assert isinstance(instance(schema)["n"], int)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "pattern": "^[0-9]{4}$"}, "pattern"),
        ({"$ref": "#/$defs/absent"}, "absent"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
            },
            "recursion",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    """Never an invalid instance, never an endless loop."""
    with pytest.raises(BadRequestError, match=named):
        instance(schema)
