"""What a subscription is sold: a version of a plan put together with add-ons, the customer's override and coupons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from sqlmodel import Session

from billing.amending import Change
from billing.catalog import (
    NO_EXTRAS,
    AddOn,
    AddOnSold,
    Extras,
    ExtrasAsked,
    Override,
    composed,
    override_in_force,
)
from billing.errors import Broken, Fault, NotFound, Refused
from billing.modifiers import Coupon, Redeemed
from billing.plan import Plan
from billing.terms import Terms
from models.amendment import Amendment
from models.database import cursor
from models.entry import COUPONS, overrides_of, used_up
from models.plan import plan, plan_versions
from models.subscription import SubscriptionTerms, subscription
from models.values import read

Versions = Mapping[tuple[str, int], Plan]


@dataclass(frozen=True, slots=True)
class Sold:
    """What terms price, and the extras that are stored with them."""

    plan: Plan
    extras: Extras


def sold(session: Session, customer_id: str, wanted: Plan, currency: str, on: date, extras: Extras) -> Sold:
    """The plan for terms that begin on that day, with the override that is in force then; the other extras as given.

    Refused if they cannot be sold together.
    """
    overrides = overrides_of(session, [customer_id])[customer_id]
    return sold_with(overrides, versions_in(session, [extras]), wanted, currency, on, extras)


def sold_with(
    overrides: Sequence[Override], add_ons: Versions, wanted: Plan, currency: str, on: date, extras: Extras
) -> Sold:
    """The same from what was read already, for sets of subscriptions."""
    override = override_in_force(overrides, wanted.plan_id, currency, on)
    extras = Extras(extras.add_ons, override, extras.coupons)
    return Sold(put_together(wanted, currency, extras, add_ons), extras)


def put_together(sold: Plan, currency: str, extras: Extras, add_ons: Versions) -> Plan:
    """The plan as terms with these extras price it."""
    with_it = [AddOn(add_ons[one.plan_id, one.version], one.count) for one in extras.add_ons]
    return composed(sold, currency, with_it, extras.override)


def versions_in(session: Session, extras: Sequence[Extras]) -> Versions:
    """The add-ons that they name."""
    wanted = sorted({(one.plan_id, one.version) for some in extras for one in some.add_ons})
    return plan_versions(session, wanted) if wanted else {}


def extras_from(stored: Mapping[str, object]) -> Extras:
    """What a row of terms has; most have none."""
    return read(Extras, stored) if any(stored.values()) else NO_EXTRAS


def extras_of(session: Session, subscription_id: str, version: int) -> Extras:
    """The extras of a version of the terms."""
    row = session.get(SubscriptionTerms, (subscription_id, version))
    if row is None:
        raise Broken(f"{subscription_id} has no terms {version}")
    return row.extras


def newest_extras(session: Session, subscription_ids: Sequence[str]) -> dict[str, Extras]:
    """The extras of the newest terms of many subscriptions."""
    rows = cursor(session).execute(
        "select t.subscription_id, t.extras from subscription_terms t join subscription s"
        " on s.id = t.subscription_id and s.terms_version = t.version where s.id = any(%s)",
        (list(subscription_ids),),
    )
    return {key: extras_from(extras) for key, extras in rows}


def change_of(session: Session, row: Amendment, standing_terms: Terms) -> Change:
    """What an amendment asks for, with what it leaves out as it is in the terms that stand.

    The override is the one that is in force on its day.
    """
    sub = subscription(session, row.subscription_id)
    before = extras_of(session, sub.id, standing_terms.version)
    asked = row.extras or ExtrasAsked()
    extras = Extras(before.add_ons if asked.add_ons is None else asked.add_ons, None, (*before.coupons, *asked.coupons))
    named = (row.plan_id, row.plan_version) if row.plan_id else _named(standing_terms)
    wanted = plan(session, *named)
    seats = standing_terms.seats if row.seats is None else row.seats
    discount = standing_terms.discount_percent if row.discount_percent is None else row.discount_percent
    found = Sold(wanted, extras)
    # Another currency or interval is refused with all that is wrong, when the change is looked at.
    if sub.currency in wanted.currencies and wanted.interval == standing_terms.plan.interval:
        found = sold(session, sub.customer_id, wanted, sub.currency, row.effective_on, extras)
    return Change(row.id, row.effective_on, found.plan, seats, discount, extras.coupons, found.extras)


def _named(terms: Terms) -> tuple[str, int]:
    return terms.plan.plan_id, terms.plan.version


@dataclass(frozen=True, slots=True)
class Redeeming:
    """Who redeems coupons, when, and from which day on they count."""

    subscription_id: str
    currency: str
    today: date
    begins_on: date


def coupons_of(session: Session, codes: Sequence[str], by: Redeeming) -> tuple[Redeemed, ...]:
    """The coupons as they are now, to be redeemed; refused with every fault, by place in the list."""
    found: list[Redeemed] = []
    faults: list[Fault] = []
    for i, code in enumerate(codes):
        try:
            coupon = COUPONS.get(session, code)
        except NotFound:
            faults.append(Fault(f"coupons.{i}", f"there is no coupon {code!r}"))
            continue
        why = "is listed more than once" if code in codes[:i] else _not_redeemable(session, coupon, by)
        if why:
            faults.append(Fault(f"coupons.{i}", f"{code!r} {why}"))
        found.append(Redeemed(coupon, by.begins_on))
    if faults:
        raise Refused(
            "A coupon cannot be redeemed.",
            code="coupon_refused",
            faults=faults,
            remedy="Leave out the coupons that are named.",
        )
    return tuple(found)


def _not_redeemable(session: Session, coupon: Coupon, by: Redeeming) -> str:
    if coupon.redeem_by is not None and by.today > coupon.redeem_by:
        return f"could be redeemed until {coupon.redeem_by}"
    if coupon.currency is not None and coupon.currency != by.currency:
        return f"is in {coupon.currency}, not in {by.currency}"
    return used_up(session, coupon, by.subscription_id)


@dataclass(frozen=True, slots=True)
class Metering:
    """A subscription prices these meters, up to and not including the day `until` if there is one."""

    subscription_id: str
    meters: frozenset[str]
    until: date | None = None


_METERINGS = """
select * from (
  select s.customer_id, t.subscription_id, t.plan_id, t.plan_version, s.currency, t.extras,
         least(k.effective_on, (select min(u.effective_on) from subscription_terms u
                                where u.subscription_id = t.subscription_id and u.version > t.version)) as until,
         null::jsonb as asked
  from subscription_terms t join subscription s on s.id = t.subscription_id
       left join cancellation k on k.subscription_id = s.id and k.applied_at is not null
  where s.customer_id = any(%(customers)s)
) m where until is null or until > %(since)s
union all
select s.customer_id, s.id, coalesce(a.plan_id, t.plan_id), coalesce(a.plan_version, t.plan_version), s.currency,
       t.extras, null, a.extras
from amendment a join subscription s on s.id = a.subscription_id
     join subscription_terms t on t.subscription_id = s.id and t.version = s.terms_version
     join agenda g on g.subject = 'subscription/' || s.id and g.cause = a.id and g.done_at is null
where s.customer_id = any(%(customers)s) and a.applied_at is null and (a.plan_id is not null or a.extras is not null)
order by 2, 4
"""


def _with(extras: Extras, asked: Mapping[str, object] | None) -> Extras:
    """As they are when an amendment that asks for these has taken effect."""
    add_ons = read(ExtrasAsked, asked).add_ons if asked else None
    return extras if add_ons is None else replace(extras, add_ons=add_ons)


def meterings(session: Session, customer_ids: Sequence[str], since: date) -> dict[str, list[Metering]]:
    """What the subscriptions of each of these customers price on `since` or later, in one read for all of them; also
    what they will by amendments that are planned.
    """
    rows = cursor(session).execute(_METERINGS, {"customers": list(customer_ids), "since": since}).fetchall()
    extras = [_with(extras_from(row[5]), row[7]) for row in rows]
    versions = {**plan_versions(session, [(row[2], row[3]) for row in rows]), **versions_in(session, extras)}
    found: dict[str, list[Metering]] = {key: [] for key in customer_ids}
    for (customer_id, other, plan_id, version, currency, _, until, _), its in zip(rows, extras, strict=True):
        priced = put_together(versions[plan_id, version], currency, its, versions)
        found[customer_id].append(Metering(other, meters_of(priced), until))
    return found


def meters_of(priced: Plan) -> frozenset[str]:
    return frozenset(meter for item in priced.items for meter in item.meters)


def metered_elsewhere(found: Sequence[Metering], subscription_id: str, since: date) -> dict[str, str]:
    """Meters that the customer's other subscriptions price on `since` or later, each with the subscription that does.

    A customer's usage of a meter is billed by one subscription; a second one would bill it again.
    """
    others = [one for one in found if one.subscription_id != subscription_id and (not one.until or one.until > since)]
    return {meter: one.subscription_id for one in others for meter in one.meters}


def add_ons_of(session: Session, asked: Sequence[AddOnSold], on: date) -> tuple[AddOnSold, ...]:
    """With version 0 as the one that is sold on that day; refused if there is no such version."""
    return tuple(
        AddOnSold(one.plan_id, plan(session, one.plan_id, one.version or None, on).version, one.count) for one in asked
    )
