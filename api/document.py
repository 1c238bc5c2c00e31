"""The OpenAPI document: what FastAPI writes, with the words, the problem documents and the shapes it cannot know of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.events import OPENAPI_PARTS

PROBLEM = {"$ref": "#/components/schemas/Problem"}


def operation_id(route: APIRoute) -> str:
    """The function's name: short, unique, and what a generated client's method is called."""
    return route.name


def document(app: FastAPI) -> dict[str, Any]:
    """Made once. Words come from the files in words/, by field or parameter, where the code itself says nothing."""
    if app.openapi_schema is None:
        words = read_words()
        found = FastAPI.openapi(app)
        schemas = found["components"]["schemas"]
        schemas.update(OPENAPI_PARTS)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for name, schema in schemas.items():
            describe(schema, words["fields"] | words["of"].get(name, {}))
        for operations in found["paths"].values():
            for operation in operations.values():
                _complete(operation, words["parameters"])
    return app.openapi_schema or {}


def read_words() -> dict[str, dict[str, Any]]:
    """All files of words/ as one: parameters, fields, and under `of` the fields of single shapes."""
    found: dict[str, dict[str, Any]] = {"parameters": {}, "fields": {}, "of": {}}
    for path in sorted(Path(__file__).with_name("words").glob("*.toml")):
        for part, words in tomllib.loads(path.read_text()).items():
            if part == "of":
                for shape, fields in words.items():
                    found["of"].setdefault(shape, {}).update(fields)
            else:
                found[part].update(words)
    return found


def describe(schema: dict[str, Any], words: dict[str, str]) -> None:
    """Words for each field that has none: of the files, else the sentence of the shape's own words that names it."""
    for field, inner in schema.get("properties", {}).items():
        if field in words:
            inner.setdefault("description", words[field])
        elif said := re.search(rf"[^.]*`{field}`[^.]*\.", " ".join(schema.get("description", "").split())):
            inner.setdefault("description", said[0].strip())


def _complete(operation: dict[str, Any], words: dict[str, str]) -> None:
    for parameter in operation.get("parameters", ()):
        if "description" not in parameter["schema"] and parameter["name"] in words:
            parameter.setdefault("description", words[parameter["name"]])
    operation["responses"].pop("422", None)
    failure = {"description": "A problem document.", "content": {"application/problem+json": {"schema": PROBLEM}}}
    operation["responses"]["default"] = failure
