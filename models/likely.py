"""Which fields there may be at a place of a document, by its JSON Schema: what a field may have been meant for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def fields_at(schema: Schema, place: Sequence[str | int], sent: Any) -> list[str]:
    """The fields of the object at `place` in `sent`; of a union, those of the members whose `kind` stands there."""
    shapes = list(_shapes(schema, schema))
    for step in place:
        inner = [_inner(shape, step) for shape in _of_its_kind(shapes, sent)]
        shapes = [found for part in inner for found in _shapes(part, schema)]
        sent = sent[step]
    return list(dict.fromkeys(name for shape in _of_its_kind(shapes, sent) for name in shape.get("properties", ())))


def _shapes(part: Schema, whole: Schema) -> Iterator[Schema]:
    """What may stand there: the part itself, what it refers to, and each member of a union."""
    if reference := part.get("$ref"):
        yield from _shapes(whole["$defs"][reference.rpartition("/")[2]], whole)
        return
    yield part
    for member in (*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())):
        yield from _shapes(member, whole)


def _inner(shape: Schema, step: str | int) -> Schema:
    found = shape.get("items") if isinstance(step, int) else shape.get("properties", {}).get(step)
    found = shape.get("additionalProperties") if found is None else found
    return found if isinstance(found, Mapping) else {}


def _of_its_kind(shapes: Sequence[Schema], sent: Any) -> Sequence[Schema]:
    kind = sent.get("kind") if isinstance(sent, Mapping) else None
    return [shape for shape in shapes if shape.get("properties", {}).get("kind", {}).get("const") == kind] or shapes
