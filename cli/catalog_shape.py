"""What the fields of catalog files take: the engine's types, read from text without guessing.

A number is decimal digits, a day is 2026-03-01, a truth value is `true` or `false`; nothing else is taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, core_schema

from billing.catalog import Catalog, Offer
from billing.errors import Fault, Refused
from models.misfits import misfits, usage_in_advance
from models.reasons import IN_ARREARS

_NUMBER = re.compile(r"[-+]?\d{1,100}(\.\d{1,100})?([eE][-+]?\d{1,2})?", re.ASCII)
_WHOLE = re.compile(r"[-+]?\d{1,100}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NOT_IN_FILES = ("plan_id", "version")
_STRICT = ConfigDict(extra="forbid")


def catalog_of(raw: Mapping[str, Any]) -> Catalog:
    """The catalog that texts, lists and mappings say. Refused with every misfit, by its path in `raw`."""
    confused = [Fault(".".join(map(str, place)), IN_ARREARS) for place in usage_in_advance(raw)]
    try:
        found: Catalog = _reader().validate_python([raw])[0]
    except ValidationError as error:
        inside = [{**e, "loc": e["loc"][1:]} for e in error.errors(include_url=False)]
        raise _unreadable([*misfits(inside, raw, _schema()), *confused]) from error
    if confused:
        raise _unreadable(confused)
    return found


@cache
def _schema() -> dict[str, Any]:
    """Of the whole catalog, for what a misspelt field may have been meant for."""
    return TypeAdapter(Catalog).json_schema()


def _unreadable(faults: Sequence[Fault]) -> Refused:
    return Refused(
        "The catalog cannot be read.", code="invalid_catalog", faults=faults, remedy="Mend the named fields."
    )


def plan_schema() -> dict[str, Any]:
    """JSON Schema of a plan's file, for editors."""
    whole = TypeAdapter(tuple[Offer, ...], config=_STRICT).json_schema()
    parts = whole["$defs"]
    for part in parts.values():
        for of in part.get("properties", {}).values():
            _as_number(of)
        kind = part.get("properties", {}).get("kind", {})
        needed = [name for name in part.get("required", []) if name != "up_to"]
        part["required"] = ["kind", *needed] if "const" in kind else needed
    plan, offer = parts.pop("Plan"), parts.pop("Offer")
    fields = {name: of for name, of in plan["properties"].items() if name not in _NOT_IN_FILES}
    sold_from = {
        **offer["properties"]["sold_from"],
        "title": "Sold from",
        "description": "New customers get this version from that day on; without it they do not get it yet.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A plan or add-on of the catalog",
        "description": "Its id is the name of the file; the catalog counts its versions.",
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in plan["required"] if name not in _NOT_IN_FILES],
        "properties": {**fields, "sold_from": sold_from},
        "$defs": parts,
    }


def _as_number(of: dict[str, Any]) -> None:
    """Figures are numbers in a file, where they are as exact as text."""
    options = of.get("anyOf", [])
    if {"type": "number"} in options:
        kept = [option for option in options if option != {"type": "string"}]
        of.update({"anyOf": kept} if len(kept) > 1 else {"type": "number"})
        if len(kept) == 1:
            del of["anyOf"]
        if of.get("default") is not None:
            of["default"] = int(of["default"])


@cache
def _reader() -> SchemaValidator:
    # The tuple is there because pydantic takes a configuration for it, and hands it on to the dataclasses inside.
    return SchemaValidator(_from_text(TypeAdapter(tuple[Catalog], config=_STRICT).core_schema))


def _from_text(schema: Any) -> Any:
    """The same schema, exact about text; a price must name its model, and what may be null may be left out."""
    if type(schema) in (list, tuple):
        return type(schema)(_from_text(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    found = {key: _from_text(part) for key, part in schema.items()}
    match found.get("type"):
        case "bool" | "int" | "decimal" | "date" as kind:
            return core_schema.no_info_before_validator_function(_CHECKS[kind], found)
        case "dataclass-field":
            found["schema"] = _of_field(found["name"], found["schema"])
    return found


def _of_field(name: str, schema: Any) -> Any:
    inner = schema.get("schema", {})
    if name == "kind" and inner.get("type") == "literal" and len(inner["expected"]) == 1:
        return inner
    if schema["type"] == "nullable":
        return core_schema.with_default_schema(schema, default=None)
    return schema


def _truth(value: object) -> object:
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        raise ValueError(f"must be a number, such as 0.0000025; {_said(value)} is none")
    return value


def _whole(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and not _WHOLE.fullmatch(value)):
        raise ValueError(f"must be a whole number; {_said(value)} is none")
    return value


def _day(value: object) -> object:
    if type(value) is not date and not (isinstance(value, str) and _DAY.fullmatch(value)):
        raise ValueError("must be a day, such as 2026-03-01")
    return value


_CHECKS = {"bool": _truth, "int": _whole, "decimal": _number, "date": _day}


def faults_of(refusal: Refused) -> tuple[Fault, ...]:
    """The faults of a refusal; its reason where it names no field."""
    return refusal.faults or (Fault("", refusal.reason),)


def _said(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
