"""Price stories: terms and usage, and what finance expects to see, step by step, in the TOML files of prices/.

A file may name `terms` once for many stories. A story of one price says, in the words of a plan's item, what differs
from its terms; then the usage; then what is expected:

    counted      what changed the quantity before it was priced, and what it was then, as "30 free: 90"
    steps        what was counted, as "3 x 5.00 + 2 = 17": quantity, price each, flat fee; "label: " may stand before
    adjustments  what changed the price afterwards, as "percent -1.70"; none if left out
    amount       the line, rounded once, in units of the currency

The figures of a story must hold among themselves before the engine is asked: steps are multiplied out, steps and
adjustments add up to the exact amount, and `decimal` rounds it. A story with `plans` is a whole life (story.py).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import cache
from itertools import zip_longest
from pathlib import Path

from billing.modifiers import Adjustment
from billing.money import exponent
from billing.plan import Plan, PlanItem
from billing.plan_check import check
from billing.pricing import Step
from billing.recipe import WHOLE, Worked, work_out
from billing.usage import Measured
from tests.billing.story import Told, known_to, priced_item, told_portions

FOLDER = Path(__file__).parent / "prices"
WIDE = Context(prec=200)


@dataclass(frozen=True)
class PriceStory:
    """One story of a file; `told` is what the file says, with its named terms filled in."""

    name: str
    told: Told

    @property
    def whole_life(self) -> bool:
        return "plans" in self.told


@cache
def price_stories() -> tuple[PriceStory, ...]:
    """Every story of the folder; `name` is its file and the words before its first colon."""
    return tuple(story for path in sorted(FOLDER.glob("*.toml")) for story in _stories(path))


def _stories(path: Path) -> Iterator[PriceStory]:
    book: Told = tomllib.loads(path.read_text(), parse_float=Decimal)
    assert book.keys() <= {"terms", "story"}, f"{path.name} has terms and stories"
    for told in book["story"]:
        named = {} if "plans" in told else book.get("terms", {}).get(told.get("terms"), {})
        assert named or "plans" in told or "price" in told, f"{told['story']}: no terms"
        title, colon, why = told["story"].partition(":")
        assert colon and why.strip(), f"{told['story']!r} says what, then a colon, then why"
        slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        yield PriceStory(f"{path.stem}-{slug}", named | {k: v for k, v in told.items() if k != "terms"})


ABOUT_USAGE = {"quantity", "events", "portions"}
ABOUT_THE_PERIOD = {"currency", "ties", "share", "cut", "number"}
EXPECTED = {"counted", "steps", "adjustments", "amount"}


@dataclass(frozen=True)
class OnePrice:
    """A story of one price, read: what is asked of the engine."""

    item: PlanItem
    used: Measured
    plan: Plan
    share: Fraction
    cut: Fraction
    number: int

    def worked_out(self) -> Worked:
        return work_out(self.item, self.used, self.share, self.number, self.cut)


def read_one_price(told: Told) -> OnePrice:
    """The item must be one that a plan may have."""
    others = ABOUT_USAGE | ABOUT_THE_PERIOD | EXPECTED | {"story"}
    item = priced_item({"key": "it", "name": "It"} | {k: v for k, v in told.items() if k not in others})
    plan = Plan("story", 1, "Story", told.get("currency", "EUR"), (item,), ties=told.get("ties", "away_from_zero"))
    check(plan, known_to([plan]))
    portions = told.get("portions") or [{"quantity": told.get("quantity", 1), "events": told.get("events", 1)}]
    share = Fraction(told["share"]) if "share" in told else WHOLE
    cut = Fraction(told["cut"]) if "cut" in told else share
    return OnePrice(item, Measured(told_portions(portions)), plan, share, cut, told_number(told))


def told_number(told: Told) -> int:
    """Which period of the subscription it is: in the story from 1, in the engine from 0."""
    return int(told.get("number", 1)) - 1


def tell_one_price(told: Told) -> None:
    """Prove the story's own figures, then that the engine tells the same."""
    steps = [ToldStep.read(text) for text in told["steps"]]
    changes = [ToldChange.read(text) for text in told.get("adjustments", [])]
    unrounded = sum([one.amount for one in (*steps, *changes)], Fraction(0))
    asked = read_one_price(told)
    assert all(step.multiplied_out == step.amount for step in steps), "a step of the story is not multiplied out"
    assert rounded(unrounded, asked.plan) == told["amount"], f"the story's own figures add up to {unrounded}"
    seen = asked.worked_out()
    counted = [text.rpartition(": ") for text in told.get("counted", [])]
    assert [(one.label, one.quantity) for one in seen.counted] == [(said, Decimal(left)) for said, _, left in counted]
    assert [ToldStep.seen(step, like) for step, like in zip_longest(seen.steps, steps)] == steps
    assert [ToldChange.seen(change, like) for change, like in zip_longest(seen.adjustments, changes)] == changes
    assert seen.amount.value == unrounded
    assert seen.amount.rounded(asked.plan.currency, asked.plan.ties).major == told["amount"]


def rounded(value: Fraction, plan: Plan) -> Decimal:
    """To the currency's decimals, by the decimal module and not by the engine's gate."""
    ties = ROUND_HALF_UP if plan.ties == "away_from_zero" else ROUND_HALF_EVEN
    place = Decimal(1).scaleb(-exponent(plan.currency))
    # What lies beyond the 60th decimal cannot make a tie of what is none, if it is not dropped but marked.
    scaled = value * 10**60
    marked = scaled.numerator // scaled.denominator * 10 + (scaled.denominator != 1)
    return Decimal(marked).scaleb(-61, WIDE).quantize(place, ties, WIDE)


STEP = re.compile(r"(?:(.*): )?(\S+) x (\S+?)(?: \+ (\S+))?(?: x (\S+))? = (\S+)")
CHANGE = re.compile(r"(\w+)(?: \((.*)\))? (\S+)")


@dataclass(frozen=True)
class ToldStep:
    """A step as a story says it; with an empty label nothing is said of it."""

    label: str
    quantity: Fraction
    price: Fraction
    fee: Fraction
    share: Fraction
    amount: Fraction

    @property
    def multiplied_out(self) -> Fraction:
        return (self.quantity * self.price + self.fee) * self.share

    @classmethod
    def read(cls, text: str) -> ToldStep:
        found = STEP.fullmatch(text)
        assert found, f"{text!r} is no step"
        label, quantity, price, fee, share, amount = found.groups()
        return cls(
            label or "", Fraction(quantity), Fraction(price), Fraction(fee or 0), Fraction(share or 1), Fraction(amount)
        )

    @classmethod
    def seen(cls, step: Step | None, like: ToldStep | None) -> ToldStep | None:
        """The engine's step; its label counts where the story has one."""
        if step is None:
            return None
        label = step.label if like and like.label else ""
        numbers = (Fraction(step.quantity), Fraction(step.unit_price), Fraction(step.flat_fee), Fraction(step.share))
        return cls(label, *numbers, step.amount.value)


@dataclass(frozen=True)
class ToldChange:
    """An adjustment as a story says it."""

    kind: str
    label: str
    amount: Fraction

    @classmethod
    def read(cls, text: str) -> ToldChange:
        found = CHANGE.fullmatch(text)
        assert found, f"{text!r} is no adjustment"
        kind, label, amount = found.groups()
        return cls(kind, label or "", Fraction(amount))

    @classmethod
    def seen(cls, change: Adjustment | None, like: ToldChange | None) -> ToldChange | None:
        if change is None:
            return None
        return cls(change.kind, change.label if like and like.label else "", Fraction(change.amount))
