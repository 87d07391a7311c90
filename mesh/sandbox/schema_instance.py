"""An instance of any JSON schema: what a draft offers where it fits, plausible samples elsewhere.

Covers what providers accept for structured output (type, enum, const, properties, required, items, prefixItems, bounds,
anyOf, oneOf, allOf, local $ref, common formats). Anything else is refused, never answered with something invalid.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mesh.sandbox.exchange import BadRequestError

Schema = Mapping[str, Any]

OPTIONAL_DEPTH = 3  # deeper than this only what is required is made, so that recursive schemas end
DEPTH_LIMIT = 40
REFUSED = frozenset(
    {"not", "if", "contains", "propertyNames", "dependentRequired", "dependentSchemas", "minProperties"}
)
FORMATS = {
    "date-time": "2026-11-22T09:30:00Z",
    "date": "2026-11-22",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "0b7e1c52-3f0c-4f6e-9d3a-5a1f2c9e8d47",
}


class Missing:
    """Stands for "no draft", since None is a value."""


MISSING = Missing()


def instance(schema: Schema, draft: object = MISSING) -> Any:  # noqa: ANN401  # any JSON value
    """A value that validates against `schema`, using `draft` and its parts wherever they fit.

    Raises:
        BadRequestError: the schema uses what is not covered, or has no finite instance.
    """
    return _Generator(schema).value(schema, draft, "value", 0, 0)


def resolve(schema: Schema, root: Schema) -> Schema:
    """`schema` with local references followed and `allOf` merged in.

    Raises:
        BadRequestError: a reference leads nowhere.
    """
    for _ in range(DEPTH_LIMIT):
        if "$ref" not in schema:
            break
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**_target(schema["$ref"], root), **rest}
    for part in schema.get("allOf", ()):
        schema = _merged({name: value for name, value in schema.items() if name != "allOf"}, resolve(part, root))
    return schema


def _target(reference: str, root: Schema) -> Schema:
    target: Any = root
    for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        key = name.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or key not in target:
            raise BadRequestError(f"the schema's $ref {reference!r} leads nowhere; only local ones are followed")
        target = target[key]
    return dict(target)


def _merged(one: Schema, other: Schema) -> Schema:
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


class _Generator:
    """Makes values of one schema; `name` is the property's name, `index` the place in a list (keeps items unique)."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def value(self, schema: Schema | bool, draft: object, name: str, index: int, depth: int) -> Any:  # noqa: ANN401  # any JSON value
        schema = resolve({} if isinstance(schema, bool) else schema, self._root)
        if depth > DEPTH_LIMIT or not REFUSED.isdisjoint(schema):
            found = ", ".join(sorted(REFUSED & set(schema))) or "endless recursion"
            raise BadRequestError(f"the sandbox cannot answer a schema with: {found}")
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return draft if draft in choices else choices[index % len(choices)]
        if options := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
            option = self._option([resolve(each, self._root) for each in options], draft, depth)
            return self.value(_merged(rest, option), draft, name, index, depth + 1)
        kind = _kind(schema, draft)
        if kind == "object":
            return self._object(schema, draft, depth)
        if kind == "array":
            return self._array(schema, draft, name, depth)
        return _scalar(kind, schema, draft, name, index)

    def _option(self, options: Sequence[Schema], draft: object, depth: int) -> Schema:
        if not isinstance(draft, Missing):
            for option in options:
                if _is(draft, _kind(option, draft)) and draft in option.get("enum", [draft]):
                    return option
        if depth > OPTIONAL_DEPTH:
            return min(options, key=_weight)
        return next((option for option in options if option.get("type") != "null"), options[0])

    def _object(self, schema: Schema, draft: object, depth: int) -> dict[str, Any]:
        offered = draft if isinstance(draft, Mapping) else {}
        required = schema.get("required", ())
        properties: Mapping[str, Any] = schema.get("properties", {})
        optional = depth < OPTIONAL_DEPTH and not offered
        wanted = [name for name in properties if optional or name in required or name in offered]
        rest = schema.get("additionalProperties", {})
        made = {**{name: properties[name] for name in wanted}, **{n: rest for n in required if n not in properties}}
        return {name: self.value(made[name], offered.get(name, MISSING), name, 0, depth + 1) for name in made}

    def _array(self, schema: Schema, draft: object, name: str, depth: int) -> list[Any]:
        offered = draft if isinstance(draft, Sequence) and not isinstance(draft, str) else None
        prefix = schema.get("prefixItems", ())
        wanted = len(prefix) + (depth < OPTIONAL_DEPTH and not prefix) if offered is None else len(offered)
        count = min(max(schema.get("minItems", 0), wanted), schema.get("maxItems", math.inf))
        items = [*prefix, *[schema.get("items", {})] * max(0, int(count) - len(prefix))][: int(count)]
        drafts = [*(offered or ())[: int(count)], *[MISSING] * (len(items) - len(offered or ()))]
        return [self.value(item, drafts[at], name, at, depth + 1) for at, item in enumerate(items)]


def _weight(schema: Schema) -> int:
    kind = _kind(schema, MISSING)
    return {"null": 0, "array": 2, "object": 3 + len(schema.get("required", ()))}.get(kind, 1)


def _kind(schema: Schema, draft: object) -> str:
    named = schema.get("type", ())
    kinds = [str(kind).lower() for kind in ([named] if isinstance(named, str) else named)]  # Gemini writes STRING
    if schema.get("nullable") and draft is None:
        return "null"
    if not kinds:
        return "object" if "properties" in schema else "array" if "items" in schema else "string"
    return next((kind for kind in kinds if _is(draft, kind)), next((k for k in kinds if k != "null"), kinds[0]))


def _is(value: object, kind: str) -> bool:
    types: dict[str, type | tuple[type, ...]] = {
        "object": Mapping, "array": (list, tuple), "string": str, "boolean": bool, "null": type(None),
        "integer": int, "number": (int, float),
    }  # fmt: skip
    return isinstance(value, types.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))


def _scalar(kind: str, schema: Schema, draft: object, name: str, index: int) -> str | float | bool | None:
    if kind == "null":
        return None
    if kind == "boolean":
        return draft if isinstance(draft, bool) else index % 2 == 0
    if kind in ("integer", "number"):
        return _number(kind, schema, draft, index)
    return _string(schema, draft, name, index)


def _string(schema: Schema, draft: object, name: str, index: int) -> str:
    sample = FORMATS.get(
        schema.get("format", ""), f"Sample {name.replace('_', ' ')}" + (f" {index + 1}" if index else "")
    )
    text = draft if isinstance(draft, str) else sample
    text = text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    if "pattern" in schema and not re.search(schema["pattern"], text):
        raise BadRequestError(f"the sandbox cannot make text that matches the pattern of {name!r}")
    return text


def _number(kind: str, schema: Schema, draft: object, index: int) -> float:
    step: float = schema.get("multipleOf") or (1 if kind == "integer" else 0)
    nudge = step or 1e-6
    low: float = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf) + nudge)
    high: float = schema.get("maximum", schema.get("exclusiveMaximum", math.inf) - nudge)
    wanted = draft if isinstance(draft, int | float) and not isinstance(draft, bool) else max(low, 1) + index
    value = min(max(wanted, low), high)
    if not step:
        return value
    rounded = math.ceil(value / step) * step
    rounded = rounded if rounded <= high else math.floor(high / step) * step
    return int(rounded) if kind == "integer" else rounded
