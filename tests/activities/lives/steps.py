"""What may happen in a random life, each told at once what must come of it. checks.py looks at all of it together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta

from msgspec import structs

from billing.errors import Refused
from billing.late import NextInvoice
from billing.period import zone
from models import held, task
from models.catalog import put_meter
from models.correction import Correction, correct
from models.customer import CustomerAlias
from models.database import transaction
from models.discard import discard_named
from models.intake import receive, replay
from models.meter_version import meter as newest
from models.meter_version import spans
from models.rebuild import MeterRebuild
from models.recount import recount
from models.task import Task
from models.trying import tried
from tests.activities.lives.life import Life, month_of
from tests.activities.lives.sold import ALIASES, CHANGES, METERS, MONTHLY, POLICIES, ZONES, Change, owner
from tests.conftest import ANY_TIME
from tests.models.test_rebuild import asked, carried_out, decided, step

WITHOUT_BEGINNING = date(1970, 1, 1)


@contextmanager
def may_be_refused(*codes: str) -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        assert refusal.code in codes, refusal


# Usage.


def send(life: Life) -> None:
    some = life.draw_some()
    with transaction(life.engine) as session:
        kinds = [outcome.kind for outcome in receive(session, some)]
    for event, kind in zip(some, kinds, strict=True):
        is_known = event.subject in life.known
        assert kind == ("accepted" if is_known else "quarantined")
        (life.accepted if is_known else life.waiting)[event.id] = event


def send_again(life: Life) -> None:
    """Under any name of its customer; also what is void by now, or taken away."""
    some = life.dice.sample([*life.accepted.values()], min(4, len(life.accepted)))
    if life.dice.random() < 0.5:
        some = [structs.replace(event, subject=owner(event)) for event in some]
    with transaction(life.engine) as session:
        assert {outcome.kind for outcome in receive(session, some)} <= {"duplicate"}
    life.again.update(event.id for event in some)


def try_and_send(life: Life) -> None:
    """The money that is shown is what late usage changes by."""
    some = [event for event in life.draw_some() if event.subject in life.known]
    made = tried(life.engine, some, ANY_TIME)
    assert not [one for one in made.worth if one.refused]
    shown: dict[str, int] = defaultdict(int)
    for one in made.worth:
        shown[one.customer_id] += one.worth.late.minor
    before = life.late()
    with transaction(life.engine) as session:
        assert receive(session, some) == made.outcomes
    assert {outcome.kind for outcome in made.outcomes} <= {"accepted"}
    life.accepted |= {event.id: event for event in some}
    assert changed(before, life.late()) == {name: shown[name] for name in ZONES}


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in ZONES}


def correct_some(life: Life) -> None:
    some = [Correction("s", wrong.id, "wrong", life.draw_instead(wrong)) for wrong in life.draw_wrong()]
    with may_be_refused("month_taken_away" if life.taken else ""):
        with transaction(life.engine) as session:
            assert correct(session, some, "key") == len(some)
        with transaction(life.engine) as session:
            assert correct(session, some, "key") == 0
        life.void |= {one.id: one.instead is not None for one in some}
        life.accepted |= {one.instead.id: one.instead for one in some if one.instead}


def become_known(life: Life) -> None:
    name = life.dice.choice([*ALIASES])
    if name not in life.known:
        with transaction(life.engine) as session:
            session.add(CustomerAlias(alias=name, customer_id=ALIASES[name]))
        life.known.add(name)


def replay_some(life: Life) -> None:
    with transaction(life.engine) as session:
        replay(session, life.dice.choice([None, *ALIASES]), life.dice.choice([1, 3, 500]))
    for (name,) in life.company.sql("select id from usage_quarantine where replayed_at is not null"):
        if name in life.waiting:
            life.accepted[name] = life.waiting.pop(name)
            assert life.accepted[name].subject in life.known


def discard_one(life: Life) -> None:
    """Nothing under its name counts from then on."""
    if life.waiting:
        event = life.waiting.pop(life.dice.choice([*life.waiting]))
        with transaction(life.engine) as session:
            assert discard_named(session, [("s", event.id)], "junk", "key") == 1
        with transaction(life.engine) as session:
            assert [outcome.kind for outcome in receive(session, [event])] == ["duplicate"]
        life.discarded[event.id] = event
        life.again[event.id] += 1


def take_a_month(life: Life) -> None:
    """The oldest one with its events, once no days are being counted anew; totals and bills stay."""
    month = date(2026, 1 + len(life.taken), 1)
    if life.is_forgetful and life.day > month + timedelta(days=45):
        for one in METERS:
            finish_rebuild(life, one.meter_id)
        assert life.company.sql("select take_usage_month(%s)", month) == [(True,)]
        life.taken.add(month)
        life.gone |= {event.id for event in life.accepted.values() if month_of(event) == month}


# Time, terms and bills.


def live(life: Life) -> None:
    life.day = life.draw_day(0, 1, 2, 5, 9, 14, 25)
    life.company.live(life.day.isoformat())
    if life.dice.random() < 0.3:
        life.company.run()
    assert not [subject for subject, _ in life.company.open_tasks() if subject.startswith("billing")]


def amend(life: Life) -> None:
    subscription = life.dice.choice(life.subscriptions)
    plan = "five" if subscription == "sub-kath" else life.dice.choice(MONTHLY)
    on, seats = life.draw_day(0, 1, 5, 20), life.dice.randint(1, 3)
    life.company.amend(life.request("amendment"), subscription, on, plan, seats)


def cancel(life: Life) -> None:
    if life.day > date(2026, 2, 15) and life.dice.random() < 0.5:
        subscription = life.dice.choice(life.subscriptions)
        life.company.cancel(life.request("cancellation"), subscription, life.draw_day(1, 5, 20))


def answer_some(life: Life) -> None:
    questions = life.questions()
    for key in life.dice.sample(questions, len(questions)):
        if life.dice.random() < 0.5:
            with may_be_refused("never_billed", "asked_before"):
                answer(life, key, "bill" if life.dice.random() < 0.6 else "waive")


def answer(life: Life, key: str, text: str) -> None:
    with transaction(life.engine) as session:
        row = session.get_one(Task, key)
        held.lock_for(session, row)
        held.decide(session, task.answer(session, key, "Carla", text, life.company.now()))


# Meters.


def put_policy(life: Life) -> None:
    meter, late = life.draw_meter(), life.dice.choice(POLICIES)
    with transaction(life.engine) as session:
        put_meter(session, replace(newest(session, meter), late=late))


def ask(life: Life) -> None:
    ask_for(life, life.draw_meter())


def ask_for(life: Life, meter: str) -> None:
    """A rebuild, in which often nothing changes; one that changes something has no end."""
    change = draw_change(life, meter)
    since = life.draw_day(0, -5, -20, -40, -70, -90)
    until = since + timedelta(days=life.dice.randint(1, 30)) if not change and life.dice.random() < 0.7 else None
    with transaction(life.engine) as session:
        if change and (newest(session, meter).carries or change.get("carries_over")):
            since = WITHOUT_BEGINNING
    with may_be_refused("conflict", "invalid_rebuild"):
        asked(life.engine, meter, since, until, id=life.request("rebuild"), **change)


def draw_change(life: Life, meter: str) -> Change:
    """Nothing that would leave the meter without a field that it needs."""
    change = life.dice.choice(CHANGES)
    needs_more = meter in ("users", "count") and {"aggregation", "carries_over", "per_event"} & {*change}
    return {} if needs_more else change


def go_on(life: Life) -> None:
    with may_be_refused("invalid_rebuild"):
        step(life.engine, life.draw_meter())


def decide(life: Life) -> None:
    meter = life.draw_meter()
    if row := life.open_rebuild(meter):
        with may_be_refused("conflict", "not_compared"):
            decided(life.engine, meter, apply=life.dice.random() < 0.8, name=row.id)


def carry_out(life: Life) -> None:
    """A rebuild, to its end: the money that it shows is what late usage changes by."""
    meter = life.draw_meter()
    if not life.open_rebuild(meter):
        ask_for(life, meter)
    row = life.open_rebuild(meter)
    if row is None or row.compared_at or row.drop_at:
        return
    carried_out(life.engine, meter)
    shown: dict[str, int] = defaultdict(int)
    rows = life.company.sql(
        "select customer_id, late_minor::bigint, refused from meter_worth where rebuild_id = %s", row.id
    )
    for name, minor, _ in rows:
        shown[name] += minor
    before = life.late()
    if finish_rebuild(life, meter) and not any(refused for *_, refused in rows):
        assert changed(before, life.late()) == {name: shown[name] for name in ZONES}


def finish_rebuild(life: Life, meter: str) -> bool:
    """Whether one was applied; it is dropped if the meter would not fit what is sold by now."""
    row = life.open_rebuild(meter)
    if row is None:
        return False
    try:
        carried_out(life.engine, meter)
        if life.open_rebuild(meter):
            decided(life.engine, meter, apply=True, name=row.id)
            carried_out(life.engine, meter)
            holds_its_days(life, row)
    except Refused as refusal:
        assert refusal.code == "invalid_rebuild"
        decided(life.engine, meter, apply=False, name=row.id)
        carried_out(life.engine, meter)
        return False
    return True


def holds_its_days(life: Life, row: MeterRebuild) -> None:
    with transaction(life.engine) as session:
        found = spans(session, row.meter_id)
    mine = [
        (span.since, span.until, span.series) for span in found if span.since < row.until and row.since < span.until
    ]
    assert mine == [(row.since, row.until, row.series)]


def recount_some(life: Life) -> None:
    """There is never anything to mend."""
    meter, customer, since = life.draw_meter(), life.dice.choice([*ZONES]), life.draw_day(-5, -30, -100)
    with may_be_refused("conflict", "month_taken_away" if life.taken else ""):
        with transaction(life.engine) as session:
            days = (since, life.day + timedelta(days=3))
            assert recount(session, newest(session, meter), customer, zone(ZONES[customer]), days, store=True) == []


# The end.


def settle(life: Life) -> None:
    """Rebuilds come to their end, all late usage goes on the next invoice, and all questions are answered, until bills
    bring no more of them.
    """
    for one in METERS:
        finish_rebuild(life, one.meter_id)
        with transaction(life.engine) as session:
            put_meter(session, replace(newest(session, one.meter_id), late=NextInvoice()))
    for month in range(12):
        life.day += timedelta(days=33)
        life.company.live(life.day.isoformat())
        life.company.run()
        questions = life.questions()
        if not questions and month > 1:
            return
        for key in life.dice.sample(questions, len(questions)):
            try:
                answer(life, key, "bill" if month < 8 and life.dice.random() < 0.7 else "waive")
            except Refused as refusal:
                assert refusal.code in ("never_billed", "asked_before")
                answer(life, key, "waive")


Step = Callable[[Life], None]
WEIGHTS: dict[Step, int] = {
    send: 10,
    live: 8,
    go_on: 7,
    carry_out: 5,
    correct_some: 4,
    ask: 4,
    decide: 4,
    answer_some: 3,
    try_and_send: 3,
    put_policy: 2,
    take_a_month: 2,
    amend: 1,
    become_known: 1,
    cancel: 1,
    discard_one: 1,
    recount_some: 1,
    replay_some: 1,
    send_again: 1,
}


def draw_step(life: Life) -> Step:
    return life.dice.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
