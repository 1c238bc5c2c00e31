"""What several people may do to a company at the same moment. Each kind is drawn first, and then done in a thread.

What came of it is read from the tables, as nobody can say who was first; nothing may be lost or be there twice.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from psycopg.errors import SerializationFailure
from sqlalchemy.exc import OperationalError

from billing.errors import Refused
from billing.period import zone
from models.catalog import put_meter
from models.correction import Correction, correct
from models.customer import CustomerAlias
from models.database import transaction
from models.discard import discard_subject
from models.event import Event
from models.intake import receive, replay
from models.meter_version import meter as newest
from models.recount import recount
from tests.activities.company import Company
from tests.activities.lives.life import Life
from tests.activities.lives.sold import ALIASES, MONTHLY, POLICIES, ZONES, owner
from tests.activities.lives.steps import answer, ask
from tests.models.test_rebuild import carried_out, decided, step

Act = Callable[[], object]
MAY_COME_TOO_LATE = {
    "conflict",
    "invalid_rebuild",
    "not_compared",
    "answered_already",
    "asked_before",
    "never_billed",
    "not_waiting",
    "invalid_corrections",
}


class Race(Life):
    """`sent` are all events by id; `offered` those that were to count instead of another, and may never have come."""

    def __init__(self, company: Company, seed: int) -> None:
        super().__init__(company, seed)
        self.sent: dict[str, Event] = {}
        self.offered: set[str] = set()

    def round(self, threads: ThreadPoolExecutor) -> None:
        if self.dice.random() < 0.4:
            self.day = self.draw_day(1, 3, 8)
            self.company.set_clock(datetime.combine(self.day, time(12), UTC))
        kinds = self.dice.choices([*WEIGHTS], [*WEIGHTS.values()], k=self.dice.randint(2, 4))
        print(f"{self.day} {' '.join(kind.__name__ for kind in kinds)}")
        if kinds.count(run) > 1:
            kinds = [kind for kind in kinds if kind is not run] + [run]
        acts = [act for kind in kinds for act in kind(self)]
        assert {*threads.map(_code_of, acts)} <= {"", *MAY_COME_TOO_LATE}
        assert not [subject for subject, _ in self.company.open_tasks() if subject.startswith("billing")]
        self._take_stock()

    def _take_stock(self) -> None:
        stored = dict(self.company.sql("select id, customer_id from usage_event"))
        held = self.company.sql("select id, discarded_at is null from usage_quarantine where replayed_at is null")
        assert not stored.keys() & {key for key, _ in held}
        assert {*stored, *(key for key, _ in held)} | self.offered == {*self.sent} | self.offered
        self.accepted = {key: self.sent[key] for key in stored}
        self.waiting = {key: self.sent[key] for key, waits in held if waits}
        self.discarded = {key: self.sent[key] for key, waits in held if not waits}
        self.void = dict(self.company.sql("select id, instead_id is not null from usage_void"))
        assert all(event.subject in self.known and owner(event) == stored[key] for key, event in self.accepted.items())


def _code_of(act: Act) -> str:
    """Of its refusal, if it is refused. Whose snapshot is too old by then does it once more, as its worker would."""
    try:
        act()
    except Refused as refusal:
        return refusal.code
    except OperationalError as error:
        if not isinstance(error.orig, SerializationFailure):
            raise
        return _code_of(act)
    return ""


# Usage.


def _sending(race: Race) -> Act:
    some = race.draw_some()
    race.sent |= {event.id: event for event in some}

    def act() -> None:
        with transaction(race.engine) as session:
            receive(session, some)

    return act


def send(race: Race) -> list[Act]:
    return [_sending(race)]


def send_twice(race: Race) -> list[Act]:
    before = {*race.sent}
    act = _sending(race)
    race.again.update(race.sent.keys() - before)
    return [act, act]


def correct_some(race: Race) -> list[Act]:
    """Sometimes two make the same corrections."""
    some = [Correction("s", wrong.id, "wrong", race.draw_instead(wrong)) for wrong in race.draw_wrong()]
    others = {one.instead.id: one.instead for one in some if one.instead}
    race.sent |= others
    race.offered |= {*others}

    def act() -> None:
        with transaction(race.engine) as session:
            correct(session, some, "key")

    return [act] * race.dice.choice([1, 1, 2])


def become_known(race: Race) -> list[Act]:
    name = race.dice.choice([*ALIASES])
    if name in race.known or race.dice.random() < 0.6:
        return []
    race.known.add(name)

    def act() -> None:
        with transaction(race.engine) as session:
            session.add(CustomerAlias(alias=name, customer_id=ALIASES[name]))

    return [act]


def replay_some(race: Race) -> list[Act]:
    limit = race.dice.choice([2, 500])

    def act() -> None:
        with transaction(race.engine) as session:
            replay(session, None, limit)

    return [act]


def discard_some(race: Race) -> list[Act]:
    name = race.dice.choice([*ALIASES])

    def act() -> None:
        with transaction(race.engine) as session:
            discard_subject(session, name, None, "junk", "key")

    return [act]


# Terms and bills.


def run(race: Race) -> list[Act]:
    return [race.company.run]


def bill_one(race: Race) -> list[Act]:
    subscription, cause = race.dice.choice(race.subscriptions), race.request("bill")
    return [lambda: race.company.bill_one(subscription, cause)]


def amend(race: Race) -> list[Act]:
    subscription, name = race.dice.choice(race.subscriptions), race.request("amendment")
    plan = "five" if subscription == "sub-kath" else race.dice.choice(MONTHLY)
    on, seats = race.draw_day(0, 1, 5, 20), race.dice.randint(1, 3)
    return [lambda: race.company.amend(name, subscription, on, plan, seats)]


def cancel(race: Race) -> list[Act]:
    if race.dice.random() < 0.8:
        return []
    subscription, name, on = race.dice.choice(race.subscriptions), race.request("cancellation"), race.draw_day(1, 5, 20)
    return [lambda: race.company.cancel(name, subscription, on)]


def answer_both(race: Race) -> list[Act]:
    """Two people answer a question, each otherwise."""
    questions = race.questions()
    if not questions:
        return []
    key = race.dice.choice(questions)
    return [lambda: answer(race, key, "bill"), lambda: answer(race, key, "waive")]


# Meters.


def put_policy(race: Race) -> list[Act]:
    meter, late = race.draw_meter(), race.dice.choice(POLICIES)

    def act() -> None:
        with transaction(race.engine) as session:
            put_meter(session, replace(newest(session, meter), late=late))

    return [act]


def ask_now(race: Race) -> list[Act]:
    ask(race)
    return []


def go_on(race: Race) -> list[Act]:
    meter = race.draw_meter()
    return [lambda: step(race.engine, meter)]


def decide(race: Race) -> list[Act]:
    meter, apply = race.draw_meter(), race.dice.random() < 0.8
    row = race.open_rebuild(meter)
    if row is None:
        return []
    name = row.id

    def act() -> None:
        decided(race.engine, meter, apply=apply, name=name)
        carried_out(race.engine, meter)

    return [act]


def recount_some(race: Race) -> list[Act]:
    meter, customer = race.draw_meter(), race.dice.choice([*ZONES])
    days = (race.day - timedelta(days=60), race.day + timedelta(days=3))

    def act() -> None:
        with transaction(race.engine) as session:
            recount(session, newest(session, meter), customer, zone(ZONES[customer]), days, store=True)

    return [act]


WEIGHTS: dict[Callable[[Race], list[Act]], int] = {
    go_on: 6,
    send: 4,
    correct_some: 4,
    run: 3,
    ask_now: 3,
    decide: 3,
    recount_some: 2,
    replay_some: 2,
    answer_both: 2,
    bill_one: 1,
    send_twice: 1,
    become_known: 1,
    discard_some: 1,
    put_policy: 1,
    amend: 1,
    cancel: 1,
}
