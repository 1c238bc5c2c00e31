"""The reference of the API as one page, made from its OpenAPI document: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from web.console import templates

router = APIRouter()

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a shape, or one parameter. `type` is what may stand there, with links to other shapes."""

    name: str
    types: tuple[tuple[str, str], ...]
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked. `scope` is what its key needs; empty where none is asked for."""

    id: str
    method: str
    path: str
    tag: str
    description: str
    parameters: tuple[Field, ...]
    takes: tuple[tuple[str, str], ...]
    gives: tuple[tuple[str, str], ...]
    status: str
    scope: str


@router.get("/docs")
def reference(request: Request) -> HTMLResponse:
    """Every operation and every shape."""
    document = request.app.openapi()
    asked = list(_operations(document))
    tags = dict.fromkeys(operation.tag for operation in asked)
    return templates.TemplateResponse(
        request,
        "reference.html",
        {
            "about": document["info"]["description"],
            "rooms": {tag: [o for o in asked if o.tag == tag] for tag in tags},
            "shapes": {
                name: (schema.get("description", ""), _fields(schema))
                for name, schema in sorted(document["components"]["schemas"].items())
            },
        },
    )


def _operations(document: Schema) -> Iterator[Operation]:
    for path, by_method in document["paths"].items():
        for method, said in by_method.items():
            status, answer = next((s, r) for s, r in said["responses"].items() if s.startswith("2"))
            yield Operation(
                said["operationId"],
                method.upper(),
                path,
                said["tags"][0],
                said["description"],
                tuple(_parameter(p) for p in said.get("parameters", ())),
                _content(said.get("requestBody", {})),
                _content(answer),
                status,
                " ".join(word for one in said.get("security", ()) for words in one.values() for word in words),
            )


def _content(said: Schema) -> tuple[tuple[str, str], ...]:
    return next((tuple(_types(c.get("schema", {}))) for c in said.get("content", {}).values()), ())


def _parameter(said: Schema) -> Field:
    schema = said.get("schema", {})
    words = said.get("description") or schema.get("description", "")
    return Field(said["name"], tuple(_types(schema)), said.get("required", False), f"{words} {_bounds(schema)}".strip())


def _fields(schema: Schema) -> list[Field]:
    required = schema.get("required", ())
    return [
        Field(name, tuple(_types(s)), name in required, f"{s.get('description', '')} {_bounds(s)}".strip())
        for name, s in schema.get("properties", {}).items()
    ]


def _types(schema: Schema) -> Iterator[tuple[str, str]]:
    """(words, name of the shape they link to or nothing), piece by piece."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield name, name
    elif options := schema.get("anyOf") or schema.get("oneOf"):
        for no, option in enumerate(options):
            yield from ((" or ", ""),) if no else ()
            yield from _types(option)
    elif schema.get("type") == "array":
        yield "list of ", ""
        yield from _types(schema.get("items", {}))
    elif "const" in schema or "enum" in schema:
        yield " | ".join(repr(v) for v in schema.get("enum", [schema.get("const")])), ""
    else:
        yield schema.get("format") or schema.get("type", "anything"), ""


_LIMITS = {
    "default": "If left out: {}.",
    "minimum": "At least {}.",
    "maximum": "At most {}.",
    "maxLength": "At most {} characters.",
    "maxItems": "At most {}.",
}


def _bounds(schema: Schema) -> str:
    said = [(words, schema[name]) for name, words in _LIMITS.items() if schema.get(name) not in (None, "", [])]
    return " ".join(words.format(json.dumps(value)) for words, value in said)


def _prose(text: str) -> list[str]:
    """Its paragraphs, each in one line."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _in_code(text: str) -> list[tuple[str, bool]]:
    """Its pieces, and whether they stood between backticks."""
    return [(piece, no % 2 == 1) for no, piece in enumerate(text.split("`")) if piece]


templates.env.filters |= {"prose": _prose, "in_code": _in_code}
