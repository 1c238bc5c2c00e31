"""What a drafted catalog would change in the live one, in words that whoever sells and whoever books can read.

What the live catalog has and the draft does not is left as it is: nothing is ever deleted by leaving it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from billing.catalog import Catalog, Offer, Override
from billing.late import CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice, in_words
from billing.modifiers import NO_BOUNDS, Bounds, Discount
from billing.plan import Entitlement, InCurrency, PlanItem, usual
from billing.pricing import Cell, PercentTier, Stair, Tier
from billing.pricing.charged import Model

Kind = Literal["product", "feature", "meter", "coupon", "plan", "add-on", "override"]
What = Literal["new", "changed", "left as it is"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that is new, changed, or not in the draft and so left as it is.

    `version` is the one that a plan's or add-on's new content gets; None if it gets none. `sentences` say what
    changes, the last ones from when and whom it touches.
    """

    kind: Kind
    id: str
    what: What
    sentences: tuple[str, ...] = ()
    version: int | None = None


# Running subscriptions by plan (or add-on) and version.
SoldCounts = Mapping[tuple[str, int], int]


def differences(live: Catalog, draft: Catalog, sold: SoldCounts | None = None) -> tuple[Change, ...]:
    """Entry by entry, in the order in which they build on each other."""
    return (
        *_entries("product", "product_id", live.products, draft.products),
        *_entries("feature", "feature_id", live.features, draft.features),
        *_entries("meter", "meter_id", live.meters, draft.meters),
        *_entries("coupon", "coupon_id", live.coupons, draft.coupons),
        *_offers(live.offers, draft.offers, sold or {}),
        *_overrides(live.overrides, draft.overrides),
    )


def to_do(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those that applying the draft would make."""
    return tuple(change for change in changes if change.what != "left as it is")


def _entries(kind: Kind, key: str, live: Sequence[Any], draft: Sequence[Any]) -> Iterator[Change]:
    for name, before, after in _paired(live, draft, key):
        if after is None:
            yield Change(kind, name, "left as it is")
        elif before is None:
            yield Change(kind, name, "new", tuple(_described(after, without=(key,))))
        elif before != after:
            yield Change(kind, name, "changed", tuple(_told(before, after, "")))


def _offers(live: Sequence[Offer], draft: Sequence[Offer], sold: SoldCounts) -> Iterator[Change]:
    there = {offer.plan.plan_id: offer for offer in live}
    wanted = {offer.plan.plan_id: offer for offer in draft}
    for name in sorted(there.keys() | wanted.keys()):
        before, after = there.get(name), wanted.get(name)
        newest = after or before
        assert newest is not None
        kind: Kind = "add-on" if newest.plan.kind == "add_on" else "plan"
        if after is None:
            yield Change(kind, name, "left as it is")
        elif before is None:
            sentences = [*_new_plan(after), _sold_from(after.sold_from)]
            yield Change(kind, name, "new", tuple(sentences), 1)
        else:
            version = before.plan.version
            told = tuple(_told(before.plan, after.plan.named(name, version), ""))
            if told:
                since = f"version {version + 1}: {_sold_from(after.sold_from)}"
                yield Change(kind, name, "changed", (*told, since, _touches(name, sold)), version + 1)
            elif before.sold_from != after.sold_from:
                yield Change(kind, name, "changed", (_sold_from(after.sold_from, before.sold_from),))


def _overrides(live: Sequence[Override], draft: Sequence[Override]) -> Iterator[Change]:
    for change in _entries("override", "override_id", live, draft):
        after = next((one for one in draft if one.override_id == change.id), None)
        if after is None:
            yield change
        else:
            since = f"for terms of {after.customer_id} on {after.plan_id} that begin from {after.effective_from} on"
            yield Change(change.kind, change.id, change.what, (*change.sentences, since))


def _sold_from(day: date | None, before: date | None = None) -> str:
    if day is None:
        return "no longer sold to new customers" if before else "not sold to new customers yet"
    return f"sold from {day}" + (f", not from {before} as before" if before else "")


def _touches(name: str, sold: SoldCounts) -> str:
    """Who has it, and that they keep what they were sold."""
    held = [(version, count) for (plan_id, version), count in sorted(sold.items()) if plan_id == name and count]
    total = sum(count for _, count in held)
    if not total:
        return "no running subscription has it"
    if len(held) == 1:
        return f"{_many(total, 'running subscription')} on version {held[0][0]}, which they keep"
    by_version = ", ".join(f"{count} on version {version}" for version, count in held)
    return f"{_many(total, 'running subscription')} keep the version they were sold: {by_version}"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _new_plan(offer: Offer) -> Iterator[str]:
    plan = offer.plan
    every = plan.interval.unit if plan.interval.count == 1 else f"{plan.interval.count} {plan.interval.unit}s"
    yield f"{plan.name}, in {' and '.join(plan.currencies)}, every {every}"
    yield from (f"item {item.key}: {_in_words(item)}" for item in plan.items)
    if plan.discounts:
        yield f"discounts: {_in_words(plan.discounts)}"
    if plan.bounds != NO_BOUNDS:
        yield f"bounds: {_in_words(plan.bounds)}"
    if plan.entitlements:
        yield f"gives {', '.join(_in_words(given) for given in plan.entitlements)}"


def _described(value: object, without: Sequence[str] = ()) -> Iterator[str]:
    """An entry that is new: what it says beyond the defaults."""
    for one in fields(value):  # type: ignore[arg-type]
        held = getattr(value, one.name)
        if one.name not in without and held != usual(value, one):
            yield f"{_words(one.name)} {_in_words(held)}"


def _told(before: object, after: object, where: str) -> Iterator[str]:
    """What differs between two values of one type, each with where it stands."""
    for one in fields(before):  # type: ignore[arg-type]
        old, new = getattr(before, one.name), getattr(after, one.name)
        if old != new:
            yield from _field_told(one.name, old, new, where)


def _field_told(name: str, old: Any, new: Any, where: str) -> Iterator[str]:
    place = _joined(where, _words(name))
    if name == "items":
        yield from _by_key("key", "item", old, new, where)
    elif name == "entitlements":
        yield from _by_key("feature", "entitlement to", old, new, where)
    elif name == "in_currencies":
        yield from _by_key("currency", "prices in", old, new, where)
    elif name in ("tiers", "cells", "discounts", "quantities"):
        yield from _by_place(name.removesuffix("s"), old, new, where)
    elif name == "rate":
        yield f"{_joined(where, '')}from {_in_words(old)} to {_in_words(new)} per unit"
    elif isinstance(old, Late):
        yield f"{place} from {in_words(old)} to {in_words(new)}"
    elif isinstance(old, Model) and type(old) is type(new):
        yield from _told(old, new, where)
    elif isinstance(old, Model):
        yield f"{place} from {_in_words(old)} to {_in_words(new)}"
    elif is_dataclass(old) and type(old) is type(new) and not isinstance(old, type):
        yield from _told(old, new, place)
    else:
        yield f"{place} from {_in_words(old, name)} to {_in_words(new, name)}"


def _by_key(key: str, word: str, old: Sequence[Any], new: Sequence[Any], where: str) -> Iterator[str]:
    """Things with a key: new ones, removed ones, and what changed in the others."""
    for name, before, after in _paired(old, new, key):
        if before is None:
            yield _joined(where, f"new {word} {name}: {_in_words(after)}")
        elif after is None:
            yield _joined(where, f"{word} {name} is removed")
        elif before != after:
            yield from _told(before, after, _joined(where, name if word == "item" else f"{word} {name}"))
    kept = [getattr(one, key) for one in old if any(getattr(one, key) == getattr(other, key) for other in new)]
    if kept != [getattr(one, key) for one in new if getattr(one, key) in kept]:
        yield _joined(where, f"in another order: {', '.join(getattr(one, key) for one in new)}")


def _by_place(word: str, old: Sequence[Any], new: Sequence[Any], where: str) -> Iterator[str]:
    """Things without a key are told by their place, counted from 1."""
    for i in range(max(len(old), len(new))):
        place = _joined(where, f"{word} {i + 1}")
        if i >= len(old):
            yield _joined(where, f"new {word} {i + 1}: {_in_words(new[i])}")
        elif i >= len(new):
            yield f"{place} is removed"
        elif old[i] != new[i]:
            yield from _told(old[i], new[i], place)


def _paired(old: Sequence[Any], new: Sequence[Any], key: str) -> Iterator[tuple[str, Any, Any]]:
    """Both by their key, in the order of the new ones, then what is only among the old ones."""
    there, wanted = ({getattr(one, key): one for one in some} for some in (old, new))
    yield from ((name, there.get(name), one) for name, one in wanted.items())
    yield from ((name, one, None) for name, one in there.items() if name not in wanted)


def _joined(where: str, what: str) -> str:
    """'tokens: tier 2', and one level further down 'tokens: tier 2, upper bound'."""
    if not where:
        return what
    if not what:
        return f"{where} "
    return f"{where}, {what}" if ": " in where else f"{where}: {what}"


_SAID_OF_ITEMS = ("key", "name", "price", "basis", "product")

# How fields are called in a sentence, where their name in words is not plain.
_FIELDS = {
    "up_to": "upper bound",
    "by": "told apart by",
    "on": "reduces",
    "most": "redemptions at most",
    "in_advance": "billed in advance",
    "zero_line": "line without usage",
    "free": "free units",
    "seats": "seats are charged",
    "ties": "half a minor unit is rounded",
    "default": "rate otherwise",
    "late": "late usage",
}


def _words(name: str) -> str:
    return _FIELDS.get(name, name.replace("_", " "))


def _in_words(value: object, name: str = "") -> str:
    """A value as it stands in a sentence."""
    match value:
        case None:
            return "without end" if name == "up_to" else "none"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:,f}"
        case tuple():
            return ", ".join(_in_words(part) for part in value) or "nothing"
        case str():
            return value or "nothing"
        case PlanItem():
            return "; ".join([f"{value.name}, {_in_words(value.price)}", *_described(value, _SAID_OF_ITEMS)])
        case Discount():
            periods = "" if value.periods is None else f" in the first {_many(value.periods, 'period')}"
            called = f" ({value.name})" if value.name else ""
            on = f" on {', '.join(value.on)}" if value.on else ""
            return f"{replace(value, name='').words}{periods}{on}{called}"
        case Tier() | PercentTier() | Stair():
            return _tier(value)
        case Cell():
            return f"{' '.join(value.values)} at {value.rate:,f}"
        case Bounds():
            return ", ".join(_described(value)) or "none"
        case NextInvoice() | CreditAndRebill() | IgnoreBelow() | Hold():
            return in_words(value)
        case Entitlement():
            return f"{value.feature} {_given(value)}"
        case InCurrency():
            return f"{value.currency}: " + "; ".join(f"{item.key} {_in_words(item.price)}" for item in value.items)
        case Model():
            kind = str(getattr(value, "kind", "")).replace("_", " ")
            return ", ".join([kind, *_described(value, ("kind",))])
    return " ".join(_described(value)) if is_dataclass(value) else str(value)


def _tier(tier: Tier | PercentTier | Stair) -> str:
    end = "beyond" if tier.up_to is None else f"up to {tier.up_to:,f}"
    price = {
        name: getattr(tier, name) for name in ("rate", "percent", "amount", "flat_fee") if getattr(tier, name, None)
    }
    return f"{end}: " + (" and ".join(f"{_words(name)} {value:,f}" for name, value in price.items()) or "free")


def _given(given: Entitlement) -> str:
    if not given.enabled:
        return "off"
    return f"up to {given.limit:,f}" if given.limit is not None else given.value or "on"
