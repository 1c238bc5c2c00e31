"""What is sold in the random lives: a meter of every kind, plans at every kind of price, and how both may change."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.catalog import Filter, Meter
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from models.event import Event

METERS = (
    Meter("sum", "Sum", "job", "n"),
    Meter("count", "Count", "job", "", aggregation="count", dimensions=("region",)),
    Meter("biggest", "Biggest", "job", "n", aggregation="max", dimensions=("region", "user")),
    Meter("seats", "Seats", "job", "n", carries_over=True),
    Meter("time", "Time", "job", "n", aggregation="weighted_sum", time_unit="hour"),
    Meter("each", "Each", "job", "n", per_event=True),
    Meter("users", "Users", "job", "user", aggregation="unique", dimensions=("region",)),
    Meter("mean", "Mean", "job", "n", aggregation="average"),
)

Change = Mapping[str, object]
CHANGES: tuple[Change, ...] = (
    {},
    {},
    {"filters": (Filter("region", ("eu", "3")),)},
    {"filters": (Filter("region", ("us",)),)},
    {"filters": (Filter("ok", ("false",), without=True),)},
    {"filters": ()},
    {"dimensions": ("region",)},
    {"dimensions": ("region", "user")},
    {"aggregation": "latest"},
    {"aggregation": "sum"},
    {"resolution": "minute"},
    {"resolution": "day"},
    {"per_event": True},
    {"carries_over": True},
    {"carries_over": False},
)
"""What a rebuild may change of a meter; often nothing, as a backfill does."""
POLICIES: tuple[Late, ...] = (
    NextInvoice(),
    NextInvoice(),
    CreditAndRebill(),
    CreditAndRebill(),
    IgnoreBelow((Below("EUR", Decimal(2)),)),
    Hold(),
)

MINIMUM = 4000
"""Of a period of the plan `three`, in minor units."""
AMOUNT_OFF = 700
"""Of a period of the plan `four`, in minor units."""


def _per_unit(rate: str) -> dict[str, Any]:
    return {"kind": "per_unit", "rate": rate}


def _item(meter: str, price: dict[str, Any], *, negative: bool = False, zero_line: bool = True) -> dict[str, Any]:
    return {
        "key": meter,
        "name": meter,
        "basis": "meter",
        "meter": meter,
        "price": price,
        "allow_negative": negative,
        "zero_line": zero_line,
    }


FEE = {"key": "base", "name": "Base", "price": {"kind": "flat", "amount": "10"}}
GRADUATED = {
    "kind": "graduated",
    "tiers": [{"up_to": "10", "rate": "0.5", "flat_fee": "1"}, {"up_to": None, "rate": "0.111"}],
}
VOLUME = {
    "kind": "volume",
    "tiers": [{"up_to": "20", "rate": "0.53"}, {"up_to": None, "rate": "0.1", "flat_fee": "2"}],
}
MATRIX = {
    "kind": "matrix",
    "by": ["region"],
    "cells": [{"values": ["eu"], "rate": "0.77"}, {"values": ["us"], "rate": "0.005"}],
    "default": "0.333",
}
PERCENTAGE = {
    "kind": "percentage",
    "percent": "3.3",
    "fixed_fee": "0.21",
    "free_transactions": 2,
    "minimum_per_transaction": "0.25",
}
PLANS: dict[str, dict[str, Any]] = {
    "one": {
        "items": [
            FEE,
            _item("sum", _per_unit("0.37"), negative=True),
            _item("count", MATRIX),
            _item("biggest", _per_unit("1.05")),
            _item("seats", _per_unit("0.333"), negative=True),
            _item("time", _per_unit("0.0017"), negative=True),
            _item("each", PERCENTAGE, negative=True),
            _item("users", GRADUATED),
            _item("mean", _per_unit("0.7"), negative=True),
        ]
    },
    "two": {
        "items": [
            _item("sum", GRADUATED, zero_line=False),
            _item("count", GRADUATED, zero_line=False),
            _item("biggest", MATRIX, negative=True, zero_line=False),
            _item("seats", _per_unit("0.333"), negative=True, zero_line=False),
            _item("time", _per_unit("0.0019"), negative=True, zero_line=False),
            _item("each", PERCENTAGE, negative=True, zero_line=False),
            _item("users", VOLUME, zero_line=False),
        ],
        "discounts": [{"kind": "percent", "value": "12.5"}],
    },
    "three": {
        "items": [
            FEE,
            _item("sum", VOLUME),
            _item("count", _per_unit("0.11")),
            _item("each", PERCENTAGE, negative=True),
        ],
        "bounds": {"minimum": "40"},
    },
    "four": {
        "items": [
            FEE,
            _item("sum", _per_unit("0.37"), negative=True),
            _item("count", MATRIX),
            _item("users", GRADUATED, zero_line=False),
        ],
        "discounts": [{"kind": "amount", "value": "7", "name": "Hi"}],
    },
    "five": {
        "items": [
            _item("seats", _per_unit("0.5"), negative=True, zero_line=False),
            _item("time", _per_unit("0.0011"), negative=True),
        ],
        "interval": {"unit": "week", "count": 2},
    },
}

ZONES = {"berlin": "Europe/Berlin", "york": "America/New_York", "kath": "Asia/Kathmandu"}
"""The customers, and where their days begin."""
ALIASES = {"b-2": "berlin", "y-2": "york"}
"""Names under which usage of theirs comes before anybody says whose it is."""
MONTHLY = ("one", "two", "three", "four")
BUYS = {"berlin": (*MONTHLY, "three"), "york": ("one", "two", "four"), "kath": ("five",)}
"""The plans that they begin with."""

EDGES = (
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 6, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 1, 31, 23, tzinfo=UTC),
    datetime(2026, 2, 1, 4, 59, 59, tzinfo=UTC),
    datetime(2026, 1, 31, 18, 15, tzinfo=UTC),
)
"""Where clocks go forward, and where January ends, in these zones."""


SUBJECTS = (*ZONES, *ZONES, *ALIASES)


def owner(event: Event) -> str:
    """Whose usage it is, once all names are known."""
    return ALIASES.get(event.subject, event.subject)


def drawn(dice: random.Random, no: int, today: date, subjects: Sequence[str] = SUBJECTS) -> Event:
    """Usage of today or of up to ten weeks ago."""
    data: dict[str, object] = {}
    if dice.random() > 0.08:
        data["n"] = dice.choice([dice.randint(-3, 9), Decimal(dice.randint(-100, 900)).scaleb(-2)])
    if dice.random() < 0.8:
        data["region"] = dice.choice(["eu", "us", 3])
    if dice.random() < 0.5:
        data["ok"] = dice.choice([True, False])
    if dice.random() < 0.8:
        data["user"] = dice.choice(["ann", "bob", "cy", 7])
    at = datetime(today.year, today.month, today.day, tzinfo=UTC)
    at += timedelta(days=-dice.choice([0, 0, 1, 3, 10, 30, 45, 70]))
    at += timedelta(minutes=dice.choice([0, 1, 719, 1380, 1439, dice.randint(0, 1439)]))
    if dice.random() < 0.1:
        at = dice.choice(EDGES)
    return Event("s", str(no), dice.choice(subjects), "job", at, data)
