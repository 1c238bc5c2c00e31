"""Stories: what was agreed, what happened day by day, and what finance expects to see, as a TOML file.

A story has a sentence, plans, what was agreed, and steps in the order of time. A step is one thing that happens, and
beside it what is expected: `lines`, `tax`, `total`, `due`, `journal`... A step that is refused says `refused`.
A part `late` says what becomes of a meter's late usage, where it is not simply billed on the next invoice.
Days are the customer's local midnights. Amounts are in units of the currency; journal lines are account, side, amount.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing.amending import Change
from billing.catalog import Meter
from billing.errors import Refused
from billing.invoice import Invoice
from billing.journal import Entry
from billing.late import to_be_billed
from billing.line import Line
from billing.modifiers import Bounds, Coupon, Discount, Redeemed
from billing.money import Money, Ties
from billing.period import Interval, instant
from billing.plan import Plan, PlanItem
from billing.plan_check import Known, MeterShape, check
from billing.portion import Portion
from billing.pricing import Flat, Graduated, PerUnit, Price, Tier
from billing.quantity import product
from billing.taxes import TaxRate
from models.tax import seed_rates
from models.values import adapter, read, read_late
from tests.billing.bookkeeping import Agreement, Books, signed

RATES = [TaxRate(r.country, r.percent, r.valid_from, r.valid_until) for r in seed_rates()]
Told = dict[str, Any]


def tell(path: Path) -> None:
    """Go through the story step by step; an assertion fails where the engine tells it differently."""
    tell_life(tomllib.loads(path.read_text(), parse_float=Decimal))


def tell_life(story: Told) -> None:
    """The same for a story that is read already."""
    assert story.keys() - {"late"} == {"story", "plans", "agreed", "steps"}, "a story has these four parts"
    late = tuple((meter, read_late(told)) for meter, told in story.get("late", {}).items())
    plans = {name: _plan(name, told) for name, told in story["plans"].items()}
    agreed = {
        f"sub_{n}": signed(_agreement(told, plans), f"sub_{n}") for n, told in enumerate(_several(story["agreed"]), 1)
    }
    agreed = {name: replace(one, late=late) for name, one in agreed.items()}
    teller = Teller(Books(agreed, rates=RATES), plans)
    for n, step in enumerate(story["steps"], 1):
        teller.step(n, dict(step))


def _several(told: Told | list[Told]) -> list[Told]:
    return told if isinstance(told, list) else [told]


def _plan(name: str, told: Told) -> Plan:
    """A plan with items in short or as they are published; bounds, discounts and ties in the published words."""
    count, unit = str(told.get("every", "1 month")).split()
    items = tuple(_item(dict(item)) for item in told["items"])
    plan = Plan(name, 1, name, told.get("currency", "EUR"), items, Interval(unit.rstrip("s"), int(count)))  # type: ignore[arg-type]
    others = {key: value for key, value in told.items() if key not in ("every", "items", "currency")}
    assert others.keys() <= {"bounds", "invoice_bounds", "discounts", "ties"}, f"{name} says {sorted(others)}"
    kinds = {"bounds": Bounds, "invoice_bounds": Bounds, "discounts": tuple[Discount, ...], "ties": Ties}
    plan = replace(plan, **{key: as_published(kinds[key], value) for key, value in others.items()})
    check(plan, known_to([plan]))
    return plan


def known_to(plans: Sequence[Plan]) -> Known:
    """Meters of the shape that these plans ask for."""
    shapes: dict[str, MeterShape] = {}
    for item in (item for plan in plans for item in plan.items):
        for meter in item.meters:
            before = shapes.get(meter, MeterShape())
            dimensions = before.dimensions.union(item.price.dimensions())
            shapes[meter] = MeterShape(dimensions, before.per_event or item.price.per_event())
    return Known(shapes, {})


def as_published(of: Any, told: Any) -> Any:
    """An engine value from its published shape; TOML has no null, so a last tier leaves `up_to` out."""
    told = _with_last_tier(told)
    value = read(of, told)
    _assert_all_read(told, adapter(of).dump_python(value), "")
    return value


def _with_last_tier(told: Any) -> Any:
    if isinstance(told, list):
        return [_with_last_tier(one) for one in told]
    if not isinstance(told, dict):
        return told
    done = {key: _with_last_tier(value) for key, value in told.items()}
    if isinstance(tiers := done.get("tiers"), list):
        done["tiers"] = [{"up_to": None} | tier for tier in tiers]
    return done


def _assert_all_read(told: Any, seen: Any, where: str) -> None:
    """A misspelt word in a story would otherwise say nothing, unnoticed."""
    if isinstance(told, dict):
        assert told.keys() <= seen.keys(), f"{where} has no {sorted(told.keys() - seen.keys())}"
        for key, value in told.items():
            _assert_all_read(value, seen[key], f"{where}.{key}")
    elif isinstance(told, list):
        for i, (value, of) in enumerate(zip(told, seen, strict=True)):
            _assert_all_read(value, of, f"{where}.{i}")


def priced_item(told: Told) -> PlanItem:
    """A plan's item as it is published."""
    item: PlanItem = as_published(PlanItem, told)
    return item


def told_portions(told: Sequence[Told]) -> tuple[Portion, ...]:
    """Portions of usage; properties are a table. With `each` and `events` the quantity follows."""
    found = []
    for one in told:
        fields = dict(one)
        if "each" in fields and "quantity" not in fields:
            fields["quantity"] = product(Decimal(fields["each"]), Decimal(fields.get("events", 1)))
        fields["properties"] = sorted(fields.get("properties", {}).items())
        found.append(as_published(Portion, fields))
    return tuple(found)


def _item(told: Told) -> PlanItem:
    if "price" in told:
        return priced_item({"name": told["key"]} | told)
    key, meter, per = told.pop("key"), told.pop("meter", None), told.pop("per", None)
    basis = "meter" if meter else "seats" if per == "seat" else "fixed"
    in_advance = not told.pop("in_arrears", False)
    [(kind, value)] = told.items()
    return PlanItem(key, key, _price(kind, value), basis, meter, in_advance=in_advance)  # type: ignore[arg-type]


def _price(kind: str, value: Any) -> Price:
    match kind:
        case "flat":
            return Flat(Decimal(value))
        case "rate":
            return PerUnit(Decimal(value))
        case "tiers":
            return Graduated(
                tuple(
                    Tier(
                        Decimal(t["up_to"]) if "up_to" in t else None,
                        Decimal(t["rate"]),
                        Decimal(t.get("flat_fee", 0)),
                    )
                    for t in value
                )
            )
    raise AssertionError(f"no price is called {kind}")


def _agreement(told: Told, plans: Mapping[str, Plan]) -> Agreement:
    told = dict(told)
    return Agreement(
        anchor=told.pop("start"),
        plan=plans[told.pop("plan")],
        seats=Decimal(told.pop("seats", 1)),
        discount_percent=Decimal(told.pop("discount", 0)),
        coupons=_redeemed(told.pop("coupons", [])),
        **told,
    )


def _redeemed(told: Sequence[Told]) -> tuple[Redeemed, ...]:
    """Coupons as redeemed: a name, discounts in the published words, and the day."""
    return tuple(
        Redeemed(Coupon(one["name"], one["name"], as_published(tuple[Discount, ...], one["discounts"])), one["on"])
        for one in told
    )


class Teller:
    """Does each step and compares what came out with what the story says."""

    def __init__(self, books: Books, plans: Mapping[str, Plan]) -> None:
        self.books = books
        self.plans = plans
        self.changes = 0
        self.verbs: Mapping[str, Callable[[Any, Told], Told]] = {
            "use": self.use,
            "bill": self.bill,
            "amend": self.amend,
            "cancel": self.cancel,
            "withdraw": self.withdraw,
            "buy": self.buy,
            "pay": self.pay,
            "recognise": self.recognise,
            "balances": self.balances,
            "answer": self.answer,
        }

    def step(self, n: int, told: Told) -> None:
        self.books.current = told.pop("subscription", "sub_1")
        [verb] = told.keys() & self.verbs.keys()
        refused = told.pop("refused", None)
        try:
            seen = self.verbs[verb](told.pop(verb), told)
        except Refused as refusal:
            assert refusal.code == refused, f"step {n} ({verb}) was refused: {refusal.reason} {refusal.faults}"
            return
        assert refused is None, f"step {n} ({verb}) should have been refused"
        for what, expected in told.items():
            assert what in seen, f"step {n} ({verb}) cannot say {what!r}"
            assert seen[what] == expected, f"step {n} ({verb}): {what} is {seen[what]}"

    def at(self, when: date | datetime) -> datetime:
        return when if isinstance(when, datetime) else instant(when, self.books.standing.zone)

    def use(self, meter: str, told: Told) -> Told:
        """Quantities by day; or, of a meter as `counted` says, events by the moment, each a quantity or its data."""
        if "counted" in told:
            made = as_published(Meter, {"meter_id": meter, "name": meter, "event_type": meter} | told.pop("counted"))
            events = [
                (datetime.fromisoformat(at), data if isinstance(data, dict) else {made.quantity_field: data})
                for at, data in told.pop("events").items()
            ]
            self.books.count(made, events)
            return {}
        for day, quantity in told.pop("days").items():
            several = quantity if isinstance(quantity, list) else [{"quantity": quantity}]
            for portion in told_portions(several):
                self.books.put(meter, date.fromisoformat(day), portion)
        return {}

    def bill(self, when: date, told: Told) -> Told:
        before = len(self.books.asked)
        document = self.books.bill(self.at(when))
        asked = {"asked": [_said(line) for line in self.books.asked[before:]]}
        return asked | (self._document(document) if document else {"nothing": True})

    def amend(self, on: date, told: Told) -> Told:
        terms = self.books.standing.terms
        self.changes += 1
        change = Change(
            f"am_{self.changes}",
            on,
            self.plans[told.pop("plan")] if "plan" in told else terms.plan,
            Decimal(told.pop("seats", terms.seats)),
            Decimal(told.pop("discount", terms.discount_percent)),
            _redeemed(told.pop("coupons")) if "coupons" in told else terms.coupons,
        )
        seen = self.books.amend(self.at(told.pop("asked", on)), change)
        return {
            "lines": [_said(line) for line in seen.lines],
            "net": seen.net.major,
            "recurring": [seen.recurring_before.major, seen.recurring_after.major],
        }

    def cancel(self, ends_on: date, told: Told) -> Told:
        self.books.cancel(self.at(told.pop("asked", ends_on)), ends_on)
        return {"lines": [_said(p.line) for p in self.books.standing.pending]}

    def withdraw(self, when: date, told: Told) -> Told:
        self.books.withdraw(self.at(when))
        return {}

    def buy(self, amount: Decimal, told: Told) -> Told:
        self.books.buy_credits(Money.of(Decimal(amount), self.books.standing.currency), told.pop("on"))
        return {}

    def pay(self, when: date, told: Told) -> Told:
        return {"paid": self.books.pay(self.at(when)).major}

    def recognise(self, through: date, told: Told) -> Told:
        entry = self.books.recognise(through)
        return {"journal": _postings([entry])} if entry else {"nothing": True}

    def answer(self, what: str, told: Told) -> Told:
        return {"about": _said(self.books.answer(to_be_billed(what)))}

    def balances(self, accounts: Told, told: Told) -> Told:
        for account, expected in accounts.items():
            assert self.books.balance(account).major == expected, f"balance of {account}"
        return {}

    def _document(self, document: Invoice) -> Told:
        invoice_id = document.heading.invoice_id
        mine = [e for e in self.books.journal.values() if e.cause_id == invoice_id]
        return {
            "document": document.kind,
            "lines": [_said(line) for line in document.lines],
            "quantities": [str(line.quantity) for line in document.lines],
            "levels": [line.because.note for line in document.lines],
            "tax": [
                f"{t.jurisdiction} {t.category} {t.percent}% of {t.base.major}: {t.tax.major}" for t in document.taxes
            ],
            "notes": [t.note for t in document.taxes if t.note],
            "net": document.net.major,
            "total": document.total.major,
            "drawn": document.drawn.major,
            "due": document.due.major,
            "due_on": document.heading.due_on,
            "journal": _postings(mine),
        }


def _said(line: Line) -> str:
    """`recurring fee, 2026-01-01 to 2026-01-31: 100.00 - 10.00`: the amount, and the discount if there is one."""
    discount = f" - {line.discount.major}" if line.discount else ""
    return f"{line.kind} {line.item}, {line.period}: {line.gross.major}{discount}"


def _postings(entries: Sequence[Entry | None]) -> list[str]:
    """Account, side and sum, in order of account; debits first."""
    sums: dict[tuple[str, str], Money] = {}
    for entry in entries:
        for p in entry.postings if entry else ():
            key = (p.account, p.side)
            sums[key] = sums[key] + p.amount if key in sums else p.amount
    return [f"{account} {side} {amount.major}" for (account, side), amount in sorted(sums.items(), key=_debits_first)]


def _debits_first(item: tuple[tuple[str, str], Money]) -> tuple[str, str]:
    (account, side), _ = item
    return account, "0" if side == "D" else "1"
