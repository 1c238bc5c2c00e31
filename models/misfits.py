"""What does not fit a type, in words: pydantic's errors by their path in what was sent, at every door the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from billing.errors import Fault

_SAID = {
    "unexpected_keyword_argument": "there is no such field",
    "missing": "is needed",
    "dataclass_type": "must be fields with their values",
}


def misfits(found: Sequence[Mapping[str, Any]], sent: object) -> list[Fault]:
    """Each field once, by its path in `sent`. Of a union, the member that the `kind` there names is meant.

    `found` are pydantic's errors, each with its place (`loc`) from the top of `sent` on.
    """
    others = {e["loc"][:-1]: e for e in found if _is_another_kind(e, sent)}
    meant = [e for e in found if not any(e["loc"][: len(other)] == other for other in others)]
    faults: dict[str, Fault] = {}
    for union in dict.fromkeys(member[:-1] for member in others):
        if not any(e["loc"][: len(union)] == union for e in meant):
            of_union = [e for member, e in others.items() if member[:-1] == union]
            field = path_of(of_union[0], sent)
            expected = ", ".join(e["ctx"]["expected"] for e in of_union if e["type"] == "literal_error")
            faults[field] = Fault(field, f"must be one of {expected}" if expected else "is needed: it names the model")
    for e in meant:
        field = path_of(e, sent)
        reason = _SAID.get(e["type"], e["msg"].removeprefix("Value error, "))
        faults.setdefault(field, Fault(field, reason))
    return list(faults.values())


def path_of(error: Mapping[str, Any], sent: object) -> str:
    """The error's place without what is not in `sent`: the names of a union's members."""
    named = error["type"] in ("missing", "unexpected_keyword_argument")
    return ".".join(str(part) for part in _real(error["loc"], sent, named=named))


def _is_another_kind(error: Mapping[str, Any], sent: object) -> bool:
    """Whether a member of a union says that its `kind` is not the one that stands there."""
    loc = error["loc"]
    return (
        len(loc) > 1
        and loc[-1] == "kind"
        and error["type"] in ("literal_error", "missing")
        and len(list(_real(loc[:-1], sent))) == len(list(_real(loc[:-2], sent)))
    )


def _real(loc: Sequence[str | int], sent: object, *, named: bool = False) -> Iterator[str | int]:
    """The parts of a place that are there, and the last one also if it is only `named`."""
    at: Any = sent
    for no, part in enumerate(loc, 1):
        if isinstance(at, Mapping) and part in at:
            at = at[part]
        elif isinstance(at, list) and isinstance(part, int):
            at = at[part] if part < len(at) else None
        elif not (isinstance(at, Mapping) and no == len(loc) and named):
            continue
        yield part
