"""An agreement becomes contract, terms and subscription; the API and the CRM's deals come through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from sqlmodel import Session

from billing.amending import Change
from billing.catalog import AddOnSold, Extras
from billing.errors import Fault, Refused
from billing.ids import derive
from billing.line import Because, Line
from billing.money import Money
from billing.period import Period, instant, local_day, zone
from billing.plan import Plan
from billing.standing import Standing
from models import agenda
from models.customer import customer, lock_roots
from models.entity import LegalEntity, entity, now_on
from models.entry import redeem
from models.invoice import PendingItem
from models.selling import Metering, Redeeming, Sold, coupons_of, metered_elsewhere, meterings, meters_of, sold
from models.subscription import Contract, Subscription, SubscriptionTerms, SubscriptionTransition

MOST_SEATS = 10**9
MOST_CREDIT = 10**12


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed. Ids are the caller's, so that agreeing twice is agreeing once.

    `plan` is the version as published. `currency` is the seller's functional one unless said otherwise.
    """

    contract_id: str
    subscription_id: str
    customer_id: str
    entity_id: str
    plan: Plan
    seats: Decimal
    starts_on: date
    discount_percent: Decimal = Decimal(0)
    prepaid_credit: Decimal = Decimal(0)
    purchase_order: str | None = None
    crm: str | None = None
    deal_id: str | None = None
    add_ons: tuple[AddOnSold, ...] = ()
    coupons: tuple[str, ...] = ()
    currency: str | None = None


def sign(session: Session, agreed: Agreement, now: datetime) -> Subscription:
    """Write down the agreement and put its first day on the agenda; refused with every fault named.

    An agreement that stands already is returned as it is.
    """
    standing = session.get(Subscription, agreed.subscription_id)
    if standing is not None:
        return standing
    seller = entity(session, agreed.entity_id)
    buyer = customer(session, agreed.customer_id)
    lock_roots(session, [buyer.root_id])
    today = local_day(now, zone(buyer.time_zone))
    agreed = replace(agreed, currency=agreed.currency or seller.functional_currency)
    _check(agreed, seller, today)
    its = _sold(session, agreed, today)
    refuse_double_metering(session, buyer.id, agreed.subscription_id, its.plan, agreed.starts_on)
    session.add(
        Contract(
            id=agreed.contract_id,
            customer_id=buyer.id,
            entity_id=seller.id,
            currency=its.plan.currency,
            signed_at=now,
            payment_terms_days=seller.payment_terms_days,
            purchase_order=agreed.purchase_order,
            crm=agreed.crm,
            deal_id=agreed.deal_id,
        )
    )
    session.flush()
    row = Subscription(
        id=agreed.subscription_id,
        contract_id=agreed.contract_id,
        customer_id=buyer.id,
        root_id=buyer.root_id,
        entity_id=seller.id,
        clock_id=seller.clock_id,
        currency=its.plan.currency,
        time_zone=buyer.time_zone,
        anchor=agreed.starts_on,
        interval_unit=agreed.plan.interval.unit,
        interval_count=agreed.plan.interval.count,
        state="pending",
        terms_version=1,
    )
    session.add(row)
    session.flush()
    session.add_all(_first_rows(agreed, its, now))
    redeem(session, row.id, its.extras.coupons, agreed.contract_id, now)
    agenda.plan_ahead(
        session,
        f"subscription/{row.id}",
        "activate",
        "first day",
        instant(agreed.starts_on, zone(buyer.time_zone)),
        seller.id,
        seller.clock_id,
    )
    return row


def today_of(session: Session, entity_id: str, customer_id: str) -> date:
    """The customer's day on the clock of that legal entity: the day on which plans have to be sold."""
    where = zone(customer(session, customer_id).time_zone)
    return local_day(now_on(session, entity(session, entity_id).clock_id), where)


def _sold(session: Session, agreed: Agreement, today: date) -> Sold:
    """The plan with what belongs to it on its first day; refused if it does not go together."""
    currency = agreed.currency or agreed.plan.currency
    by = Redeeming(agreed.subscription_id, currency, today, agreed.starts_on)
    extras = Extras(agreed.add_ons, None, coupons_of(session, agreed.coupons, by))
    return sold(session, agreed.customer_id, agreed.plan, currency, agreed.starts_on, extras)


def refuse_double_metering(session: Session, customer_id: str, subscription_id: str, plan: Plan, since: date) -> None:
    """Refuse a plan whose meters another subscription of the customer prices on `since` or later."""
    refuse_metered(
        metered_elsewhere(meterings(session, [customer_id], since)[customer_id], subscription_id, since), plan
    )


def refuse_metered_anew(one: Standing, change: Change, metered: Sequence[Metering]) -> None:
    """Refuse a change that brings a meter which another subscription prices; what the terms price already stays."""
    if meters_of(change.plan) - meters_of(one.terms.plan):
        refuse_metered(metered_elsewhere(metered, one.subscription_id, change.effective_on), change.plan)


def refuse_metered(taken: Mapping[str, str], plan: Plan) -> None:
    """The same from what was read already: meters, each with the subscription that prices it."""
    faults = [
        Fault("plan", f"prices the meter {meter!r}, as {taken[meter]} does already")
        for meter in sorted(meters_of(plan) & taken.keys())
    ]
    if faults:
        raise Refused(
            "The customer's usage would be billed twice.",
            code="double_metering",
            faults=faults,
            remedy="End the other subscription first, or withdraw its planned amendment; or make a customer of its own"
            " for this usage.",
        )


def _check(agreed: Agreement, seller: LegalEntity, today: date) -> None:
    faults: list[Fault] = []
    books = f"{seller.id} keeps books in {seller.functional_currency}"
    if agreed.currency != seller.functional_currency:
        faults.append(Fault("currency", f"cannot be {agreed.currency}: {books}"))
    elif agreed.currency not in agreed.plan.currencies:
        faults.append(Fault("plan", f"is priced in {', '.join(agreed.plan.currencies)}, but {books}"))
    if not 0 <= agreed.seats <= MOST_SEATS or agreed.seats % 1:
        faults.append(Fault("seats", f"must be a whole number from zero to {MOST_SEATS:,}"))
    if not 0 <= agreed.discount_percent <= 100:
        faults.append(Fault("discount_percent", "must be between 0 and 100"))
    faults += _credit_faults(agreed)
    if (today - agreed.starts_on).days > 400:
        faults.append(Fault("starts_on", f"is more than 400 days before today, {today}"))
    if (agreed.starts_on - today).days > 3660:
        faults.append(Fault("starts_on", f"is more than ten years after today, {today}"))
    if faults:
        raise Refused(
            "The agreement cannot be run as it stands.",
            code="invalid_agreement",
            faults=faults,
            remedy="Correct the named fields and send it again; nothing was stored.",
        )


def _credit_faults(agreed: Agreement) -> list[Fault]:
    if not 0 <= agreed.prepaid_credit <= MOST_CREDIT:
        return [Fault("prepaid_credit", f"must be an amount from zero to {MOST_CREDIT:,}")]
    try:
        Money.of(agreed.prepaid_credit, agreed.currency or agreed.plan.currency)
    except Refused as refusal:
        return [Fault("prepaid_credit", refusal.reason)]
    return []


def _first_rows(
    agreed: Agreement, its: Sold, now: datetime
) -> list[SubscriptionTerms | SubscriptionTransition | PendingItem]:
    rows: list[SubscriptionTerms | SubscriptionTransition | PendingItem] = [
        SubscriptionTerms(
            subscription_id=agreed.subscription_id,
            version=1,
            effective_on=agreed.starts_on,
            plan_id=agreed.plan.plan_id,
            plan_version=agreed.plan.version,
            seats=agreed.seats,
            discount_percent=agreed.discount_percent,
            extras=its.extras,
            cause=agreed.contract_id,
        ),
        SubscriptionTransition(
            subscription_id=agreed.subscription_id,
            no=1,
            from_state=None,
            to_state="pending",
            event="sign",
            cause=agreed.contract_id,
            at=now,
        ),
    ]
    if agreed.prepaid_credit:
        line = _credit_purchase(agreed, its.plan.currency)
        rows.append(
            PendingItem(
                id=derive("pnd", agreed.subscription_id, line.key),
                subscription_id=agreed.subscription_id,
                cause=agreed.contract_id,
                line=line,
                created_at=now,
            )
        )
    return rows


def _credit_purchase(agreed: Agreement, currency: str) -> Line:
    price = Money.of(agreed.prepaid_credit, currency)
    return Line(
        key=f"credit/{agreed.contract_id}",
        kind="credit_purchase",
        item="prepaid_credit",
        description="Prepaid credit",
        period=Period(agreed.starts_on, agreed.starts_on),
        gross=price,
        discount=Money.zero(price.currency),
        revenue="usage",
        because=Because(
            terms_version=1,
            plan_id=agreed.plan.plan_id,
            plan_version=agreed.plan.version,
            price_kind="agreed amount",
            quantity=Decimal(1),
            note="bought with the contract; a tender for later invoices",
        ),
    )
