"""Usage that came and is not billed: of nobody who is known, counted by no meter, or priced by nothing that was sold;
and what it may be worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from sqlmodel import Session

from billing.by_day import by_day
from billing.estimate import MeanPrice
from billing.money import Money
from billing.period import Period
from billing.unpriced import Agreed, Unpriced, unpriced
from billing.usage import BEFORE, Totals, measure
from models import quarantine
from models.catalog import live_meters
from models.database import cursor
from models.event import Event, Named
from models.event_key import contents_of
from models.quarantine import WAITS, HeldBy
from models.standing import histories
from models.usage import totals_of

MOST_ESTIMATED = 10_000
"""So many of the events of a page are looked at for the estimates, the first by source and id."""
DAYS_OF_PRICES = 90


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a quantity may be worth: at the mean net price of a unit on all invoices of 90 days up to the newest."""

    meter: str
    quantity: Decimal
    amount: Money


@dataclass(frozen=True, slots=True)
class WhyWaiting:
    """For which of their fields so many events wait, and why."""

    field: HeldBy
    reason: str
    events: int


@dataclass(frozen=True, slots=True)
class OfNobody:
    """Events of a subject that wait in quarantine: nobody is known by it, or their times are out of bounds. There is an
    estimate for each meter and currency billed lately, of the first `estimated_events` of them.
    """

    subject: str
    customer_id: str | None
    types: tuple[str, ...]
    reasons: tuple[WhyWaiting, ...]
    events: int
    first_received_at: datetime
    last_received_at: datetime
    estimated_events: int
    estimates: tuple[Estimate, ...]


WhyNoMeter = Literal["no_meter", "not_counted"]


@dataclass(frozen=True, slots=True)
class ByNoMeter:
    """Events of a customer and type, of days of which no meter counted any; without those that are void.

    `why`: no meter looks at the type (no_meter); or one does, and counted nothing (not_counted), as it was made later,
    its field is missing, or its filters let none of them pass.
    """

    customer_id: str
    type: str
    events: int
    first_day: date
    last_day: date
    why: WhyNoMeter


@dataclass(frozen=True, slots=True)
class WithoutPrice:
    """A customer's usage that a meter counts and no price looks at. There is an estimate for each currency billed
    lately.
    """

    customer_id: str
    usage: Unpriced
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class WithoutPricePage:
    """In order of customer and meter; `after` is where the next page begins, None if this is the last."""

    found: tuple[WithoutPrice, ...]
    after: str | None


def of_nobody(session: Session, after: str, limit: int) -> list[OfNobody]:
    """A page in order of subject, behind `after`."""
    rows = (
        cursor(session)
        .execute(
            "select subject, max(customer_id), array_agg(distinct event ->> 'type'), count(*), min(received_at),"
            f" max(received_at) from usage_quarantine where {WAITS} and subject > %s"
            " group by 1 order by 1 limit %s",
            (after, limit),
        )
        .fetchall()
    )
    subjects = [subject for subject, *_ in rows]
    reasons = _reasons(session, subjects)
    meters, prices = live_meters(session), _mean_prices(session)
    waiting = _would_count(session, subjects)
    found: list[OfNobody] = []
    for subject, customer_id, types, many, first, last in rows:
        events = waiting.get(subject, ())
        totals = by_day(meters, ((e.type, e.occurred_at, e.data) for e in events))
        worth = _estimates(totals, prices)
        why = tuple(reasons[subject])
        found.append(OfNobody(subject, customer_id, tuple(types), why, many, first, last, len(events), worth))
    return found


def _would_count(session: Session, subjects: Sequence[str]) -> dict[str, list[Event]]:
    """By subject, the first of what waits; without those under whose names others came in meanwhile, which stand."""
    waiting = [one.event for one in quarantine.waiting(session, subjects, MOST_ESTIMATED)]
    keys = [Named.key_of(e.source, e.id) for e in waiting]
    known = contents_of(session, set(keys))
    found: dict[str, list[Event]] = {}
    for e, key in zip(waiting, keys, strict=True):
        if key not in known:
            found.setdefault(e.subject, []).append(e)
    return found


def _reasons(session: Session, subjects: Sequence[str]) -> dict[str, list[WhyWaiting]]:
    """By subject, those of most events first."""
    rows = cursor(session).execute(
        f"select subject, field, reason, count(*) from usage_quarantine where {WAITS}"
        " and subject = any(%s) group by 1, 2, 3 order by 1, 4 desc, 2, 3",
        (list(subjects),),
    )
    found: dict[str, list[WhyWaiting]] = {}
    for subject, field, reason, events in rows:
        found.setdefault(subject, []).append(WhyWaiting(field, reason, events))
    return found


def _mean_prices(session: Session) -> dict[str, list[MeanPrice]]:
    """By meter, one for each currency."""
    rows = cursor(session).execute(
        "select l.meter_id, l.currency, sum(l.net_minor)::bigint, sum(l.quantity)"
        " from invoice_line l join invoice i on i.id = l.invoice_id"
        " join legal_entity e on e.id = i.entity_id join ("
        "   select e.clock_id, max(i.issued_on) as issued_on from invoice i join legal_entity e on e.id = i.entity_id"
        "   group by 1) newest on newest.clock_id is not distinct from e.clock_id"
        " where l.meter_id is not null and i.issued_on > newest.issued_on - %s"
        " group by 1, 2 having sum(l.quantity) > 0 order by 1, 2",
        (DAYS_OF_PRICES,),
    )
    found: dict[str, list[MeanPrice]] = {}
    for meter, currency, net, quantity in rows:
        found.setdefault(meter, []).append(MeanPrice(Money(net, currency), quantity))
    return found


def _estimates(totals: Totals, prices: Mapping[str, Sequence[MeanPrice]]) -> tuple[Estimate, ...]:
    """Of all days from the first to the last; a level is taken to end with that."""
    days = [day for _, day in totals if day > BEFORE]
    if not days:
        return ()
    whole = Period(min(days), max(days) + timedelta(days=1))
    quantities = {meter: measure(totals, meter, whole).quantity for meter in sorted({meter for meter, _ in totals})}
    return tuple(
        Estimate(meter, quantity, price.of(quantity))
        for meter, quantity in quantities.items()
        for price in prices.get(meter, ())
    )


def by_no_meter(session: Session, since: date, until: date, after: tuple[str, str], limit: int) -> list[ByNoMeter]:
    """A page in order of customer and type, behind `after`: what came for local days from `since` to before `until`."""
    rows = cursor(session).execute(
        "select customer_id, type, sum(events)::bigint, min(day), max(day),"
        " case when exists (select from meter m where m.event_type = type) then 'not_counted' else 'no_meter' end"
        " from (select customer_id, type, day, events - (select count(*) from usage_void v where"
        "   v.customer_id = d.customer_id and v.type = d.type and v.day = d.day) as events"
        "  from (select customer_id, type, day, sum(events) as events from usage_answered where outcome = 'accepted'"
        "    and day >= %(since)s and day < %(until)s and (customer_id, type) > (%(customer)s, %(type)s)"
        "    group by 1, 2, 3) d"
        "  where not exists (select from meter m join meter_span n on n.meter_id = m.id"
        "    join usage_total t on t.meter_id = n.series and t.day >= n.since and t.day < n.until"
        "    where m.event_type = d.type and t.customer_id = d.customer_id and t.day = d.day"
        "    and t.day >= %(since)s and t.day < %(until)s)) uncounted"
        " where events > 0 group by 1, 2 order by 1, 2 limit %(limit)s",
        {"since": since, "until": until, "customer": after[0], "type": after[1], "limit": limit},
    )
    return [ByNoMeter(*row) for row in rows]


def without_price(session: Session, asked: Period, after: str, limit: int) -> WithoutPricePage:
    """A page over customers behind `after` that have usage on the days asked for, so many of them looked at."""
    customers = _customers_with_usage(session, asked, after, limit)
    totals = totals_of(session, customers, asked.start)
    agreed = _agreed(session, customers)
    prices = _mean_prices(session)
    found = [
        WithoutPrice(customer_id, one, _worth(one, prices.get(one.meter, ())))
        for customer_id in customers
        for one in unpriced(agreed.get(customer_id, ()), totals[customer_id], asked)
    ]
    return WithoutPricePage(tuple(found), customers[-1] if len(customers) == limit else None)


def _customers_with_usage(session: Session, asked: Period, after: str, limit: int) -> list[str]:
    """Of these days, or of days before by a meter that carries over."""
    rows = cursor(session).execute(
        "select id from customer c where id > %(after)s and exists (select from usage_total t"
        " where t.customer_id = c.id and t.day < %(end)s and (t.day >= %(start)s"
        " or t.meter_id = any(array(select m.id from meter m where carries(m))))) order by id limit %(limit)s",
        {"after": after, "start": asked.start, "end": asked.end, "limit": limit},
    )
    return [customer_id for (customer_id,) in rows]


def _agreed(session: Session, customer_ids: Sequence[str]) -> dict[str, list[Agreed]]:
    """Every subscription of these customers, whatever has become of it."""
    rows = (
        cursor(session)
        .execute(
            "select s.customer_id, s.id, s.currency, s.anchor, k.effective_on from subscription s"
            " left join cancellation k on k.subscription_id = s.id and k.scheduled_at is not null"
            " and k.withdrawn_at is null where s.customer_id = any(%s) order by s.id",
            (list(customer_ids),),
        )
        .fetchall()
    )
    terms = histories(session, {key: currency for _, key, currency, *_ in rows})
    found: dict[str, list[Agreed]] = {}
    for customer_id, key, _, anchor, ends_on in rows:
        found.setdefault(customer_id, []).append(Agreed(tuple(terms[key]), anchor, ends_on))
    return found


def _worth(one: Unpriced, prices: Sequence[MeanPrice]) -> tuple[Estimate, ...]:
    return tuple(Estimate(one.meter, one.quantity, price.of(one.quantity)) for price in prices)
