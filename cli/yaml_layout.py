"""Values written as YAML in one fixed layout: what is short in one line, the rest in blocks, two spaces deep.

Numbers, days and truth values stand plain; text stands in quotes wherever a reader of YAML could take it for anything
else. `read_yaml` reads back what is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import TypeAlias

Plain: TypeAlias = "str | int | bool | Decimal | date | list[Plain] | dict[str, Plain] | None"
WIDTH = 100

# Words that some version of YAML takes for something else.
_NO_TEXT = frozenset("null true false yes no on off y n".split())
_CLEAR = re.compile(r"[^\W\d_](?:[\w ./+%()'-]*[\w./+%()'-])?")
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
# Control characters, line separators, surrogates and everything beyond the basic plane.
_NOT_AS_IS = re.compile(r"[\"\\\x00-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff\U00010000-\U0010ffff]")


def write_yaml(value: dict[str, Plain], *, spread: int = 1) -> str:
    """The document; down to a depth of `spread` everything that has parts is in blocks."""
    return "".join(f"{line}\n" for line in _mapping(value, 0, spread)) if value else "{}\n"


def _mapping(value: dict[str, Plain], depth: int, spread: int) -> Iterator[str]:
    for key, inner in value.items():
        name = f"{'  ' * depth}{_text(key)}:"
        if (short := _short(inner, 2 * depth + len(key))) is not None and (depth >= spread or not _has_parts(inner)):
            yield f"{name} {short}"
        else:
            yield name
            yield from _block(inner, depth + 1, spread)


def _block(value: Plain, depth: int, spread: int) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _mapping(value, depth, spread)
        return
    assert isinstance(value, list)
    for inner in value:
        start = f"{'  ' * depth}- "
        if (short := _short(inner, 2 * depth)) is not None:
            yield start + short
        else:
            first, *rest = _block(inner, depth + 1, spread)
            yield start + first.lstrip(" ")
            yield from rest


def _short(value: Plain, taken: int) -> str | None:
    """The value in one line; None if it needs more."""
    if isinstance(value, dict) and value:
        if any(_has_parts(inner) and not _is_words(inner) for inner in value.values()):
            return None
        line = "{" + ", ".join(f"{_text(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    elif isinstance(value, list) and value:
        if not _is_words(value):
            return None
        line = _flow(value)
    else:
        return _scalar(value)
    return line if len(line) + taken <= WIDTH else None


def _flow(value: Plain) -> str:
    if isinstance(value, list) and value:
        return "[" + ", ".join(_scalar(inner) for inner in value) + "]"
    return _scalar(value)


def _is_words(value: Plain) -> bool:
    """Whether it is a list without lists or mappings inside."""
    return isinstance(value, list) and not any(_has_parts(inner) for inner in value)


def _has_parts(value: Plain) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _scalar(value: Plain) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case int() | date():
            return str(value)
        case str():
            return _text(value)
    return "{}" if isinstance(value, dict) else "[]"


def _text(value: str) -> str:
    if _CLEAR.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    return '"' + _NOT_AS_IS.sub(_escaped, value) + '"'


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    return _NAMED.get(character) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
