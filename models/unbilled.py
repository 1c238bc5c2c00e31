"""Usage that came and is not billed: of nobody who is known, or counted by no meter; and what it may be worth."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from sqlmodel import Session

from billing.folding import fold
from billing.money import Amount, Money
from billing.usage import quantity_of
from models import quarantine
from models.catalog import live_meters
from models.database import cursor

MOST_ESTIMATED = 10_000
"""Of a subject, so many of the events that wait are looked at for the estimate, the first by source and id."""
DAYS_OF_PRICES = 90


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a quantity may be worth: at the mean net price of a unit on all invoices of 90 days up to the newest."""

    meter: str
    quantity: Decimal
    amount: Money


@dataclass(frozen=True, slots=True)
class OfNobody:
    """Events of a subject that wait in quarantine. There is an estimate for each meter and currency billed lately."""

    subject: str
    types: tuple[str, ...]
    reason: str
    events: int
    first_received_at: datetime
    last_received_at: datetime
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class ByNoMeter:
    """Stored events of a customer whose type no meter looks at."""

    customer_id: str
    type: str
    events: int
    first_day: date
    last_day: date


def of_nobody(session: Session, after: str, limit: int) -> list[OfNobody]:
    """A page in order of subject, behind `after`."""
    rows = (
        cursor(session)
        .execute(
            "select subject, array_agg(distinct event ->> 'type'), min(reason), count(*), min(received_at),"
            " max(received_at) from usage_quarantine where replayed_at is null and subject > %s"
            " group by 1 order by 1 limit %s",
            (after, limit),
        )
        .fetchall()
    )
    prices = _mean_prices(session)
    return [
        OfNobody(subject, tuple(types), reason, events, first, last, _estimates(session, subject, prices))
        for subject, types, reason, events, first, last in rows
    ]


def _mean_prices(session: Session) -> dict[str, list[tuple[str, Fraction]]]:
    """By meter: currency, and net amount of a unit in units of the currency."""
    rows = cursor(session).execute(
        "select l.meter_id, l.currency, sum(l.net_minor)::bigint, sum(l.quantity)"
        " from invoice_line l join invoice i on i.id = l.invoice_id"
        " where l.meter_id is not null and i.issued_on > (select max(issued_on) from invoice) - %s"
        " group by 1, 2 having sum(l.quantity) > 0 order by 1, 2",
        (DAYS_OF_PRICES,),
    )
    found: dict[str, list[tuple[str, Fraction]]] = defaultdict(list)
    for meter, currency, net, quantity in rows:
        found[meter].append((currency, Money(net, currency).amount.value / Fraction(quantity)))
    return found


def _estimates(session: Session, subject: str, prices: dict[str, list[tuple[str, Fraction]]]) -> tuple[Estimate, ...]:
    events = quarantine.waiting(session, subject, MOST_ESTIMATED, hold=False)
    folded = fold(live_meters(session), ((e.type, e.data) for e in sorted(events, key=lambda e: e.occurred_at)))
    return tuple(
        Estimate(meter, quantity, Amount(Fraction(quantity) * price).rounded(currency))
        for meter, portions in sorted(folded.items())
        for quantity in (quantity_of(portions),)
        for currency, price in prices.get(meter, ())
    )


def by_no_meter(session: Session, since: date, until: date, after: tuple[str, str], limit: int) -> list[ByNoMeter]:
    """A page in order of customer and type, behind `after`: what came for local days from `since` to before `until`."""
    rows = cursor(session).execute(
        "select customer_id, type, sum(events)::bigint, min(day), max(day) from usage_answered a"
        " where outcome = 'accepted' and day >= %s and day < %s and (customer_id, type) > (%s, %s)"
        " and not exists (select from meter m where m.event_type = a.type) group by 1, 2 order by 1, 2 limit %s",
        (since, until, *after, limit),
    )
    return [ByNoMeter(*row) for row in rows]
