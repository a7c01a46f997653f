"""Bodies for any operation of an OpenAPI document, as hypothesis strategies: valid, nearly valid, and rubbish."""

import json
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]
Bodies = st.SearchStrategy[bytes]

# Any text, half surrogate pairs and NUL bytes too; JSON can write them all, as escapes.
texts = st.text(st.characters(), max_size=40) | st.text("aй💰\x00\u202e'\"<>{}%$", max_size=300)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
_SIZES = {"[": 2000, '{"a":': 2000, '"' + "x" * 100: 700, "9": 20_000, "[0,": 9000}
_HUGE = st.sampled_from(sorted(_SIZES)).map(lambda part: (part * _SIZES[part]).encode())


def resolved(document: Document, schema: Document) -> Document:
    """The schema itself where it is a reference to one."""
    while "$ref" in schema:
        node: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            node = node[step]
        schema = node
    return schema


def valid(document: Document, schema: Document, known: dict[str, list[Any]], name: str = "") -> st.SearchStrategy[Any]:
    """Values that a schema allows; those that are `known` for the member of this name come often."""
    schema = resolved(document, schema)
    made = _made(document, schema, known)
    return st.one_of(st.sampled_from(known[name]), made) if name in known else made


def _made(document: Document, schema: Document, known: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return st.one_of([valid(document, each, known) for each in schema[several]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([valid(document, {**schema, "type": each}, known) for each in kind])
    if kind == "object":
        members = {key: valid(document, each, known, key) for key, each in schema.get("properties", {}).items()}
        wanted = {key: value for key, value in members.items() if key in schema.get("required", [])}
        others = {key: value for key, value in members.items() if key not in wanted}
        return st.fixed_dictionaries(wanted, optional=others)
    if kind == "array":
        return st.lists(valid(document, schema.get("items", {}), known), min_size=schema.get("minItems", 0), max_size=5)
    if kind == "string":
        least = schema.get("minLength", 0)
        return st.text(min_size=least, max_size=max(least, min(schema.get("maxLength", 40), 200)))
    simple = {"integer": st.integers(), "number": st.floats(0, 1e12) | st.integers(1, 10**6), "boolean": st.booleans()}
    return simple.get(str(kind), st.none() if kind == "null" else anything)


def bodies(document: Document, operation: Document, known: dict[str, list[Any]]) -> Bodies:
    """JSON bodies for an operation: what it allows, that with one member spoilt, and any bytes."""
    schema = resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    right = valid(document, schema, known)
    members = st.sampled_from([*schema.get("properties", {"": None}), "id", "user", "is_active", "password_hash"])
    spoilt = st.builds(lambda body, member, value: {**body, member: value}, right, members, anything)
    lacking = st.builds(lambda body, gone: {k: v for k, v in body.items() if k != gone}, right, members)
    twice = st.builds(lambda one, other: written(one)[:-1] + b", " + written(other)[1:], right, right)
    return (right | spoilt | lacking | anything).map(written) | twice | st.binary(max_size=200) | _HUGE


def written(value: Any) -> bytes:
    """As JSON, and as Python writes it: NaN, Infinity and half surrogate pairs are what a careless client sends."""
    return json.dumps(value).encode()
