"""Subscriptions as the engine sees them: set-based reads that give `Standing` values. The lock comes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlmodel import Session

from billing.late import Late
from billing.line import Because, Line
from billing.money import Money
from billing.period import Interval, Period
from billing.proration import BilledFee
from billing.quantity import added_up
from billing.standing import FEES_REACH, BilledUsage, Lane, PendingLine, Standing
from billing.taxes import Parties
from billing.terms import Terms
from models.database import cursor
from models.plan import plan_versions
from models.selling import extras_from, put_together, versions_in
from models.values import read, read_late

_HEAD = """
select s.id, s.root_id, s.customer_id, s.contract_id, s.entity_id, s.clock_id, s.currency, s.time_zone, s.anchor,
       s.interval_unit, s.interval_count, s.state, c.payment_terms_days, e.country, u.country,
       u.vat_id_verified_on is not null, k.effective_on, e.version, u.version
from subscription s join contract c on c.id = s.contract_id join legal_entity e on e.id = s.entity_id
join customer u on u.id = s.customer_id
left join cancellation k on k.subscription_id = s.id and k.scheduled_at is not null and k.withdrawn_at is null
where {where} order by s.root_id, s.id
"""


def standings(session: Session, root_ids: Sequence[str], entity_id: str | None = None) -> list[Standing]:
    """All subscriptions billed to those roots (of one legal entity, if named), in order of root and id."""
    where = "s.root_id = any(%s) and (%s::text is null or s.entity_id = %s)"
    heads = cursor(session).execute(_HEAD.format(where=where), (list(root_ids), entity_id, entity_id)).fetchall()
    return _complete(session, heads)


def running_of(session: Session, customer_id: str) -> list[Standing]:
    """The customer's subscriptions that have begun and not ended, on whatever clock."""
    heads = cursor(session).execute(_HEAD.format(where="s.customer_id = %s and s.state = 'active'"), (customer_id,))
    return _complete(session, heads.fetchall())


def standing(session: Session, subscription_id: str) -> Standing | None:
    heads = cursor(session).execute(_HEAD.format(where="s.id = %s"), (subscription_id,)).fetchall()
    return next(iter(_complete(session, heads)), None)


def _complete(session: Session, heads: Iterable[tuple[Any, ...]]) -> list[Standing]:
    found = {
        row[0]: Standing(
            subscription_id=row[0],
            root_id=row[1],
            customer_id=row[2],
            contract_id=row[3],
            entity_id=row[4],
            clock_id=row[5],
            currency=row[6],
            zone_name=row[7],
            anchor=row[8],
            interval=Interval(row[9], row[10]),
            state=row[11],
            payment_terms_days=row[12],
            parties=Parties(row[13], row[14], row[15]),
            ends_on=row[16],
            history=(),
            entity_version=row[17],
            customer_version=row[18],
        )
        for row in heads
    }
    ids = list(found)
    if not ids:
        return []
    found_terms = histories(session, {key: one.currency for key, one in found.items()})
    lanes, pending = _lanes(session, ids), _pending(session, ids)
    late, aside = _late(session), _set_aside(session, ids)
    fees, usage, true_ups = _billed(session, found)
    return [
        replace(
            one,
            history=tuple(found_terms[key]),
            lanes=tuple(lanes[key]),
            pending=tuple(pending[key]),
            fees=tuple(fees[key]),
            usage=tuple(usage.get(key, {}).values()),
            true_ups=tuple(true_ups.get(key, {}).values()),
            late=late,
            set_aside=tuple(aside[key]),
        )
        for key, one in found.items()
    ]


def histories(session: Session, currencies: dict[str, str]) -> dict[str, list[Terms]]:
    """Every version of the terms of these subscriptions, given with their currencies; plans as they are priced."""
    rows = (
        cursor(session)
        .execute(
            "select subscription_id, version, effective_on, plan_id, plan_version, seats, discount_percent, extras"
            " from subscription_terms where subscription_id = any(%s) order by subscription_id, version",
            (list(currencies),),
        )
        .fetchall()
    )
    every = [extras_from(row[7]) for row in rows]
    plans = {**plan_versions(session, sorted({(row[3], row[4]) for row in rows})), **versions_in(session, every)}
    found: dict[str, list[Terms]] = defaultdict(list)
    for (key, version, effective_on, plan_id, plan_version, seats, discount, _), extras in zip(
        rows, every, strict=True
    ):
        priced = put_together(plans[plan_id, plan_version], currencies[key], extras, plans)
        found[key].append(Terms(version, effective_on, priced, seats, discount, extras.coupons))
    return found


def _lanes(session: Session, ids: list[str]) -> dict[str, list[Lane]]:
    rows = cursor(session).execute(
        "select subscription_id, lane, billed_through from billing_lane where subscription_id = any(%s) order by 1, 2",
        (ids,),
    )
    found: dict[str, list[Lane]] = defaultdict(list)
    for key, lane, through in rows:
        found[key].append(Lane(lane, through))
    return found


def _pending(session: Session, ids: list[str]) -> dict[str, list[PendingLine]]:
    rows = cursor(session).execute(
        "select subscription_id, id, line from pending_item where subscription_id = any(%s) and invoice_id is null"
        " order by subscription_id, created_at, cause, no",
        (ids,),
    )
    found: dict[str, list[PendingLine]] = defaultdict(list)
    for key, pending_id, line in rows:
        found[key].append(PendingLine(pending_id, read(Line, line)))
    return found


def _late(session: Session) -> tuple[tuple[str, Late], ...]:
    """The policies of meters whose late usage is not simply billed on the next invoice."""
    rows = cursor(session).execute("select id, late from meter where late ->> 'kind' <> 'next_invoice' order by id")
    return tuple((meter, read_late(policy)) for meter, policy in rows)


def _set_aside(session: Session, ids: list[str]) -> dict[str, list[Line]]:
    """Late usage about which a person was asked, and that is not to be billed: not yet, or never."""
    rows = cursor(session).execute(
        "select subscription_id, line from held_usage where subscription_id = any(%s) and pending_id is null"
        " order by asked_at, id",
        (ids,),
    )
    found: dict[str, list[Line]] = defaultdict(list)
    for key, line in rows:
        found[key].append(read(Line, line))
    return found


Windows = dict[str, dict[tuple[str, Period], BilledUsage]]


def _billed(session: Session, standings: dict[str, Standing]) -> tuple[dict[str, list[BilledFee]], Windows, Windows]:
    """What lines have charged: usage by window and what the plan's bounds added, all of it, since late usage knows no
    horizon; fees as far as FEES_REACH.
    """
    rows = cursor(session).execute(
        "select l.subscription_id, l.kind, l.item, l.description, l.period_start, l.period_end, l.quantity,"
        " l.gross_minor, l.discount_minor, l.currency, l.revenue, l.because,"
        " case when m.id is not null then (select n.number from invoice_number n where n.invoice_id = l.invoice_id) end"
        " as number, l.product_id"
        " from invoice_line l join billing_lane b on b.subscription_id = l.subscription_id and b.lane = 'arrears'"
        " left join meter m on m.id = l.meter_id and m.late ->> 'kind' = 'credit_and_rebill'"
        " where l.subscription_id = any(%s) and l.kind not in ('credit_purchase', 'one_time')"
        " and (l.kind in ('usage', 'late_usage', 'true_up') or l.period_end > b.billed_through - %s)"
        " order by l.subscription_id, l.period_start, number, l.invoice_id, l.no",
        (list(standings), FEES_REACH.days),
    )
    fees: dict[str, list[BilledFee]] = defaultdict(list)
    usage: Windows = defaultdict(dict)
    true_ups: Windows = defaultdict(dict)
    for key, kind, item, description, start, end, quantity, *amounts, currency, revenue, why, number, product in rows:
        period = Period(start, end)
        gross, discount = (Money(minor, currency) for minor in amounts)
        if kind in ("recurring", "proration"):
            fees[key].append(
                BilledFee(item, description, period, gross, discount, revenue, read(Because, why), product)
            )
            continue
        billed = true_ups[key] if kind == "true_up" else usage[key]
        before = billed.get((item, period)) or _nothing(item, period, currency)
        off = sum(taken["minor"] for taken in why.get("taken", ()))
        billed[item, period] = BilledUsage(
            item,
            period,
            added_up([quantity, before.quantity]),
            gross + before.gross,
            gross - discount + before.net,
            before.lines + 1,
            off + before.amounts_off,
            (off if kind == "usage" else 0) + before.given_off,
            before.invoices if number in (None, *before.invoices) else (*before.invoices, number),
        )
    return fees, usage, true_ups


def _nothing(item: str, period: Period, currency: str) -> BilledUsage:
    return BilledUsage(item, period, Decimal(0), Money.zero(currency), Money.zero(currency), 0)
