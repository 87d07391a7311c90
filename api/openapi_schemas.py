"""The JSON schemas of the OpenAPI document, made by pydantic from the models of api.schemas; see api.openapi."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from api.operations import OPERATIONS
from api.schemas.problems import Problem

Json = dict[str, Any]


class _WithoutFieldTitles(GenerateJsonSchema):
    """Fields say what they are by their names; pydantic would repeat those in capitals."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002  # as pydantic has it
        return False


class Schemas:
    """The JSON schemas of all that is taken and answered, as pydantic makes them."""

    def __init__(self) -> None:
        wanted = {(repr(type_), mode): TypeAdapter(type_) for mode, type_ in _types()}
        found, whole = TypeAdapter.json_schemas(
            [(name, mode, adapter) for (name, mode), adapter in wanted.items()],
            ref_template="#/components/schemas/{model}",
            schema_generator=_WithoutFieldTitles,
        )
        self._of: dict[tuple[str, JsonSchemaMode], Json] = found
        self._components: Json = whole["$defs"]
        queries = {self.taken(operation.query)["$ref"] for operation in OPERATIONS.values()}
        self._queries: dict[str, Json] = {
            reference: self._components.pop(reference.rpartition("/")[2]) for reference in queries
        }

    def taken(self, type_: object) -> Json:
        """The schema of what is asked: mostly a reference to a component."""
        return self._of[repr(type_), "validation"]

    def answered(self, type_: object) -> Json:
        """The schema of what is answered."""
        return self._of[repr(type_), "serialization"]

    def query(self, type_: object) -> Json:
        """The schema of a query string, which is no component: its properties are parameters."""
        return self._queries[self.taken(type_)["$ref"]]

    def components(self) -> Json:
        """What is referred to."""
        return self._components


def _types() -> Iterator[tuple[JsonSchemaMode, Any]]:
    yield "validation", Problem
    for operation in OPERATIONS.values():
        for taken in (operation.query, operation.body):
            if taken is not None:
                yield "validation", taken
        for answered in operation.answers.values():
            if answered is not None:
                yield "serialization", answered
        for event in operation.stream:
            yield "validation", event  # where some fields may be missing
