"""What is sent in a storm (test_ingest_storm.py): events by numbers, and what they have to add up to."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

ZONES = {"hot": "Europe/Berlin", "york": "America/New_York", "tokyo": "Asia/Tokyo", "kiel": "Europe/Berlin"}
ALIASES = {"crm-kiel": "kiel"}
SUBJECTS = {"hot": 70, "york": 8, "tokyo": 8, "crm-kiel": 8, "stranger": 4, "other-stranger": 2}
METERS: list[dict[str, Any]] = [
    {"id": "tokens", "name": "Tokens", "event_type": "llm", "quantity_field": "n"},
    {"id": "by-model", "name": "By model", "event_type": "llm", "quantity_field": "n", "dimensions": ["model"]},
    {"id": "mails", "name": "Mails", "event_type": "mail", "quantity_field": "n", "resolution": "minute"},
    {"id": "largest", "name": "Largest", "event_type": "llm", "quantity_field": "n", "aggregation": "max"},
    {"id": "models", "name": "Models", "event_type": "llm", "quantity_field": "model", "aggregation": "unique"},
]
FIRST = datetime(2026, 1, 10, tzinfo=UTC)
Counted = dict[tuple[str, str, date], tuple[Decimal, int]]
"""By customer, meter and local day: the sum of the quantities, the largest, or how many values; and how many events."""


class Sent(NamedTuple):
    """An event by its number; `other` has the same name and another content."""

    no: int
    other: bool = False

    @property
    def written(self) -> dict[str, Any]:
        subject, kind, at, n, model = drawn(self.no)
        data = {"n": float(n) + 0.5 if self.other else float(n), "model": model}
        return {
            "source": "s",
            "id": f"e{self.no}",
            "subject": subject,
            "type": kind,
            "time": at.isoformat(),
            "data": data,
        }

    @property
    def quantity(self) -> Decimal:
        return drawn(self.no)[3] + (Decimal("0.5") if self.other else 0)

    @property
    def customer(self) -> str | None:
        subject = drawn(self.no)[0]
        return None if "stranger" in subject else ALIASES.get(subject, subject)

    @property
    def day(self) -> date:
        assert self.customer
        return drawn(self.no)[2].astimezone(ZoneInfo(ZONES[self.customer])).date()


@cache
def drawn(no: int) -> tuple[str, str, datetime, Decimal, str]:
    """Subject, type, time, quantity and model of the event with this number; always the same."""
    dice = random.Random(no)
    (subject,) = dice.choices(list(SUBJECTS), list(SUBJECTS.values()))
    at = FIRST + timedelta(seconds=dice.randrange(40 * 86_400))
    return (
        subject,
        dice.choice(("llm", "llm", "mail", "else")),
        at,
        Decimal(dice.randrange(1, 10_000)) / 10,
        f"m{no % 3}",
    )


def added_up(events: Iterable[Sent]) -> Counted:
    found: dict[tuple[str, str, date], list[Sent]] = defaultdict(list)
    for sent in events:
        for meter in METERS:
            if meter["event_type"] == drawn(sent.no)[1]:
                found[sent.customer, meter["id"], sent.day].append(sent)
    ways = {meter["id"]: meter.get("aggregation", "sum") for meter in METERS}
    return {key: (together(ways[key[1]], all_), len(all_)) for key, all_ in found.items()}


def together(aggregation: str, some: Sequence[Sent]) -> Decimal:
    match aggregation:
        case "max":
            return max(sent.quantity for sent in some)
        case "unique":
            return Decimal(len({drawn(sent.no)[4] for sent in some}))
        case _:
            return sum((sent.quantity for sent in some), Decimal(0))
