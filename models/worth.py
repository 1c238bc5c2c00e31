"""What other totals of usage are worth to customers, before they hold: by day, and in money by currency."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from sqlmodel import Session

from billing.errors import Refused
from billing.money import MOST_MINOR
from billing.period import local_day
from billing.rebuilding import Worth, worth
from billing.usage import Totals, quantity_of
from models.database import cursor
from models.entity import now_on
from models.recount import kept_of
from models.standing import standings


class DayChange(NamedTuple):
    """A meter's quantity of a local day, as it holds and as it would be."""

    meter_id: str
    day: date
    before: Decimal
    after: Decimal


def changes(before: Totals, after: Totals) -> Iterator[DayChange]:
    """The days of one customer on which something else is kept, in order of meter and day."""
    for key in sorted({*before, *after}):
        had, has = before.get(key, ()), after.get(key, ())
        if kept_of(had) != kept_of(has):
            yield DayChange(*key, quantity_of(had), quantity_of(has))


class CurrencyWorth(NamedTuple):
    """What it comes to for one customer in one currency; `refused` says why part of it cannot be said."""

    customer_id: str
    currency: str
    worth: Worth
    refused: str | None


def worth_of(
    session: Session, customer_ids: Collection[str], before: Mapping[str, Totals], after: Mapping[str, Totals]
) -> list[CurrencyWorth]:
    """Of these customers, one for each currency of whose subscriptions the bills change; totals by customer."""
    rows = cursor(session).execute("select distinct root_id from customer where id = any(%s)", (list(customer_ids),))
    roots = sorted(root_id for (root_id,) in rows)
    found: dict[tuple[str, str], Worth] = {}
    refused: dict[tuple[str, str], str] = {}
    for one in standings(session, roots):
        if one.customer_id not in customer_ids or not one.lanes:
            continue
        key = (one.customer_id, one.currency)
        mine = found.setdefault(key, Worth.nothing(one.currency))
        try:
            today = local_day(now_on(session, one.clock_id), one.zone)
            mine += worth(one, before[one.customer_id], after[one.customer_id], today)
        except Refused as refusal:
            refused[key] = f"{one.subscription_id}: {refusal.reason}"
            continue
        if max(abs(mine.late.minor), abs(mine.open.minor)) > MOST_MINOR:
            refused[key] = f"{one.subscription_id}: comes to more than any invoice can have"
            continue
        found[key] = mine
    return [CurrencyWorth(*key, mine, refused.get(key)) for key, mine in found.items() if mine or key in refused]
