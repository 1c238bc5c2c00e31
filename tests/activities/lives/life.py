"""What was done to a company in a random life, and what there is to draw from next. steps.py has what may be done."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import count

from msgspec import structs

from billing.late_usage import late_usage
from billing.plan import Plan
from models.catalog import publish, put_meter
from models.customer import Customer, add_customer
from models.database import transaction
from models.event import Event, make_months
from models.rebuild import MeterRebuild, open_of
from models.standing import standings
from models.usage import totals_of
from models.values import read
from tests.activities.company import Company
from tests.activities.lives.sold import BUYS, METERS, PLANS, POLICIES, SUBJECTS, ZONES, drawn, owner

FIRST_DAY = date(2026, 1, 1)


def month_of(event: Event) -> date:
    """Of the partition in which it lies."""
    return event.occurred_at.date().replace(day=1)


class Life:
    """Three customers buy; then whatever the dice say.

    `accepted`, `waiting` and `discarded` are the events by id; `void` says of those that do not count any more whether
    another one does instead, and `again` how often one came again. `known` are the names that somebody has, `taken` the
    months that were taken away, and `gone` the events in them then.
    """

    def __init__(self, company: Company, seed: int) -> None:
        self.company, self.engine, self.dice = company, company.engine, random.Random(seed)
        self.day = self.dice.choice([FIRST_DAY, date(2026, 1, 20), date(2026, 2, 10)])
        self.known = {*ZONES}
        self.accepted: dict[str, Event] = {}
        self.waiting: dict[str, Event] = {}
        self.discarded: dict[str, Event] = {}
        self.void: dict[str, bool] = {}
        self.again: Counter[str] = Counter()
        self.taken: set[date] = set()
        self.gone: set[str] = set()
        self.is_forgetful = self.dice.random() < 0.4
        self._events, self._requests = count(1), count(1)
        self._sell()
        self.subscriptions = [self._sign(name) for name in ZONES]
        company.live(self.day.isoformat())

    def _sell(self) -> None:
        now = self.company.now()
        with transaction(self.engine) as session:
            make_months(session, FIRST_DAY - timedelta(days=90), 20)
            for one in METERS:
                put_meter(session, replace(one, late=self.dice.choice(POLICIES)))
            for name, content in PLANS.items():
                publish(
                    session,
                    read(Plan, {"plan_id": name, "version": 1, "name": name, "currency": "EUR", **content}),
                    now,
                )
            for name, where in ZONES.items():
                add_customer(
                    session,
                    Customer(
                        id=name,
                        root_id=name,
                        name=name,
                        email="",
                        country="DE",
                        time_zone=where,
                        address="",
                        created_at=now,
                    ),
                    [],
                )

    def _sign(self, customer: str) -> str:
        return self.company.sign(
            customer,
            self.dice.choice(BUYS[customer]),
            starts_on=date(2026, 1, self.dice.choice([1, 1, 15, 29, 31])),
            prepaid_credit=Decimal(self.dice.choice([0, 0, 30, 500])),
            discount_percent=Decimal(self.dice.choice(["0", "0", "7.5", "33.33"])),
        )

    # What is known of it.

    def of(self, customer: str, events: Mapping[str, Event]) -> list[Event]:
        """Those of a customer, by the names that are known by now."""
        return [e for e in events.values() if e.subject in self.known and owner(e) == customer]

    def is_taken(self, event: Event) -> bool:
        return month_of(event) in self.taken

    def late(self) -> dict[str, int]:
        """What late usage comes to by now, net, by customer."""
        found: dict[str, int] = defaultdict(int)
        with transaction(self.engine) as session:
            totals = totals_of(session, [*ZONES])
            for one in standings(session, [*ZONES]):
                late = late_usage(one, totals[one.customer_id])
                found[one.customer_id] += sum(x.net.minor for x in (*late.lines, *late.released, *late.held))
        return found

    def open_rebuild(self, meter: str) -> MeterRebuild | None:
        with transaction(self.engine) as session:
            return open_of(session, meter)

    def questions(self) -> list[str]:
        """The open tasks about late usage that is held."""
        rows = self.company.sql(
            "select t.id from task t join held_usage h on h.task_id = t.id where t.answered_at is null"
            " order by h.asked_at, h.id"
        )
        return [key for (key,) in rows]

    # What is drawn.

    def request(self, kind: str) -> str:
        """An id that nobody had."""
        return f"{kind}-{next(self._requests)}"

    def draw(self, subjects: Sequence[str] = SUBJECTS) -> Event:
        return drawn(self.dice, next(self._events), self.day, subjects)

    def draw_some(self) -> list[Event]:
        return [self.draw() for _ in range(self.dice.randint(2, 8))]

    def draw_wrong(self) -> list[Event]:
        mine = [e for e in self.accepted.values() if e.id not in self.void and not self.is_taken(e)]
        return self.dice.sample(mine, min(self.dice.randint(1, 3), len(mine)))

    def draw_instead(self, wrong: Event) -> Event | None:
        """What is to count in its place: nothing, the same in another quantity, or another event of anybody."""
        if self.dice.random() < 0.5:
            return None
        other = self.draw([*ZONES])
        if self.dice.random() < 0.4:
            data = {**wrong.data, "n": self.dice.randint(-2, 5)}
            other = structs.replace(other, subject=owner(wrong), occurred_at=wrong.occurred_at, data=data)
        return None if self.is_taken(other) else other

    def draw_meter(self) -> str:
        return self.dice.choice(METERS).meter_id

    def draw_day(self, *days: int) -> date:
        """So many days from today."""
        return self.day + timedelta(days=self.dice.choice(days))
