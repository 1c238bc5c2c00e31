"""What does not fit a type, in words: pydantic's errors by their path in what was sent, at every door the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from billing.errors import Fault
from models.likely import fields_at
from models.reasons import NEEDED, NO_SUCH_FIELD, of_pydantic, options_of, or_rather


def misfits(found: Sequence[Mapping[str, Any]], sent: object, schema: Mapping[str, Any] | None = None) -> list[Fault]:
    """Each field once, by its path in `sent`. Of a union, the member that the `kind` there names is meant.

    `found` are pydantic's errors, each with its place (`loc`) from the top of `sent` on. By the JSON Schema of what was
    to be sent, a field that there is not is told which one is like it.
    """
    others = {e["loc"][:-1]: e for e in found if _is_another_kind(e, sent)}
    meant = [e for e in found if not any(e["loc"][: len(other)] == other for other in others)]
    faults: dict[str, Fault] = {}
    for union in dict.fromkeys(member[:-1] for member in others):
        if not any(e["loc"][: len(union)] == union for e in meant):
            of_union = [e for member, e in others.items() if member[:-1] == union]
            field = path_of(of_union[0], sent)
            expected = ", ".join(options_of(e["ctx"]["expected"]) for e in of_union if e["type"] == "literal_error")
            faults[field] = Fault(field, f"must be one of {expected}" if expected else f"{NEEDED}: it names the model")
    said: dict[str, list[str]] = {}
    for e in meant:
        said.setdefault(path_of(e, sent), []).append(of_pydantic(e) + _meant(e, sent, schema))
    for field, reasons in said.items():
        faults.setdefault(field, Fault(field, _together(reasons)))
    return list(faults.values())


def _meant(error: Mapping[str, Any], sent: object, schema: Mapping[str, Any] | None) -> str:
    if schema is None or of_pydantic(error) != NO_SUCH_FIELD:
        return ""
    *place, name = _real(error["loc"], sent, named=True)
    return or_rather(str(name), fields_at(schema, place, sent))


def _together(reasons: Sequence[str]) -> str:
    """What the members of a union say of one value: what it may be, or why it is not quite what it looks like."""
    kinds = [reason for reason in dict.fromkeys(reasons) if reason.startswith(_KIND)]
    if nearest := next((reason for reason in reasons if reason not in kinds), None):
        return nearest
    return ", or ".join([kinds[0], *(kind.removeprefix(_KIND) for kind in kinds[1:])])


_KIND = "must be "


def usage_in_advance(sent: object) -> Iterator[tuple[str | int, ...]]:
    """Where in a document, as it was sent, a metered item asks to be billed in advance."""
    if isinstance(sent, Mapping):
        if sent.get("basis") == "meter" and str(sent.get("in_advance")).lower() in _YES:
            yield ("in_advance",)
        inner: list[tuple[str | int, object]] = [(name, sent[name]) for name in _WITH_ITEMS if name in sent]
    else:
        inner = list(enumerate(sent)) if isinstance(sent, list | tuple) else []
    for step, part in inner:
        yield from ((step, *place) for place in usage_in_advance(part))


_WITH_ITEMS = ("items", "item", "in_currencies", "plan", "offers", "overrides")
_YES = {"true", "1", "t", "y", "yes", "on"}
"""What pydantic takes for true."""


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
