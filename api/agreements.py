"""What callers write about subscriptions: agreements, changes, wishes to end; and the stored requests they become."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session

from api.fields import CallersId, Code, Day, KnownCurrency, LongText, Percent, Seats
from api.same_again import others, refuse_other
from billing.catalog import AddOnSold, ExtrasAsked
from billing.errors import Fault, Refused
from billing.ids import derive
from billing.period import local_day
from billing.standing import Standing
from models.amendment import Amendment, Cancellation
from models.entity import now_on
from models.plan import plan
from models.selling import Redeeming, add_ons_of, coupons_of
from models.signing import Agreement, today_of
from models.subscription import Contract, Subscription, SubscriptionTerms


class AddOnIn(BaseModel):
    """An add-on that is sold with the plan, so many times."""

    model_config = ConfigDict(extra="forbid")
    plan: str
    version: Annotated[int, Field(ge=1)] | None = None
    count: Annotated[int, Field(ge=1, le=10**6)] = 1


class SubscriptionIn(BaseModel):
    """An agreement. Bring your own `id`: sending it again changes nothing."""

    model_config = ConfigDict(extra="forbid")
    id: CallersId | None = None
    customer: str
    entity: str
    plan: str
    plan_version: int | None = None
    add_ons: Annotated[list[AddOnIn], Field(max_length=50)] = []
    coupons: Annotated[list[Code], Field(max_length=20)] = []
    currency: KnownCurrency | None = None
    seats: Seats = Decimal(1)
    starts_on: Day
    discount_percent: Percent = Decimal(0)
    prepaid_credit: Annotated[Decimal, Field(ge=0, le=10**12)] = Decimal(0)
    purchase_order: LongText | None = None


class ChangeIn(BaseModel):
    """What to change; what is left out stays. `effective_on` is a local day, today if left out."""

    model_config = ConfigDict(extra="forbid")
    plan: str | None = None
    add_ons: Annotated[list[AddOnIn], Field(max_length=50)] | None = None
    coupons: Annotated[list[Code], Field(max_length=20)] = []
    seats: Seats | None = None
    discount_percent: Percent | None = None
    effective_on: Day | None = None


class AmendmentIn(ChangeIn):
    """A change to be made. `id` is yours: it is the key under which the change happens once."""

    id: CallersId | None = None
    preview_hash: Annotated[str, StringConstraints(max_length=64)] | None = None


class CancellationIn(BaseModel):
    """A wish to end: at the end of what is paid, today, or on a day (the first that is not billed)."""

    model_config = ConfigDict(extra="forbid")
    id: CallersId | None = None
    when: Literal["period_end", "now"] | Day = "period_end"
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


def agreement(session: Session, body: SubscriptionIn, subscription_id: str) -> Agreement:
    """With the versions that are sold on the customer's day, where the caller names none."""
    today = today_of(session, body.entity, body.customer)
    return Agreement(
        contract_id=derive("con", subscription_id),
        subscription_id=subscription_id,
        customer_id=body.customer,
        entity_id=body.entity,
        plan=plan(session, body.plan, body.plan_version, today),
        seats=body.seats,
        starts_on=body.starts_on,
        discount_percent=body.discount_percent,
        prepaid_credit=body.prepaid_credit,
        purchase_order=body.purchase_order,
        add_ons=add_ons_of(session, _named(body.add_ons), today),
        coupons=tuple(body.coupons),
        currency=body.currency,
    )


def amendment(session: Session, one: Standing, body: ChangeIn, amendment_id: str, by: str) -> Amendment:
    """The request with all it names looked up; not stored yet. Coupons are redeemed as they are now. Refused if it
    changes nothing.
    """
    _refuse_nothing(body)
    now = now_on(session, one.clock_id)
    today = local_day(now, one.zone)
    effective_on = body.effective_on or today
    wanted = plan(session, body.plan, on=today) if body.plan else None
    redeeming = Redeeming(one.subscription_id, one.currency, today, effective_on)
    extras = ExtrasAsked(
        None if body.add_ons is None else add_ons_of(session, _named(body.add_ons), today),
        coupons_of(session, body.coupons, redeeming),
    )
    return Amendment(
        id=amendment_id,
        subscription_id=one.subscription_id,
        effective_on=effective_on,
        plan_id=wanted.plan_id if wanted else None,
        plan_version=wanted.version if wanted else None,
        seats=body.seats,
        discount_percent=body.discount_percent,
        extras=None if extras == ExtrasAsked() else extras,
        requested_by=by,
        requested_at=now,
        preview_hash=body.preview_hash if isinstance(body, AmendmentIn) else None,
    )


def _refuse_nothing(body: ChangeIn) -> None:
    said = body.model_dump(include=set(_CHANGES), exclude_none=True)
    if not any(value not in ("", []) or name == "add_ons" for name, value in said.items()):
        raise Refused(
            "The change cannot be made as asked.",
            code="invalid_amendment",
            faults=[Fault("body", f"changes nothing; give at least one of {', '.join(_CHANGES)}")],
            remedy="Say what is to change; nothing was stored.",
        )


_CHANGES = ("plan", "add_ons", "coupons", "seats", "discount_percent")
"""What a change may say; without any of these it would change nothing."""


def _named(wanted: Sequence[AddOnIn]) -> list[AddOnSold]:
    return [AddOnSold(one.plan, one.version or 0, Decimal(one.count)) for one in wanted]


def refuse_other_amendment(standing: Amendment, subscription_id: str, body: AmendmentIn) -> None:
    """What is left out is not compared, nor are versions that the caller did not name."""
    written = body.model_dump(include={"seats", "discount_percent", "effective_on", "preview_hash"}, exclude_none=True)
    other = others(standing, {"subscription_id": subscription_id, **written})
    extras = standing.extras or ExtrasAsked()
    if body.plan is not None and body.plan != standing.plan_id:
        other.append("plan")
    if body.add_ons is not None and not _same_add_ons(body.add_ons, extras.add_ons or ()):
        other.append("add_ons")
    if body.coupons and body.coupons != [redeemed.coupon.coupon_id for redeemed in extras.coupons]:
        other.append("coupons")
    refuse_other("a request", other)


def refuse_other_subscription(session: Session, standing: Subscription, body: SubscriptionIn) -> None:
    """Compared with what was signed, however it was amended since."""
    signed = session.get(SubscriptionTerms, (standing.id, 1))
    contract = session.get(Contract, standing.contract_id)
    assert signed is not None and contract is not None
    other = others(contract, {"customer_id": body.customer, "entity_id": body.entity})
    other += others(contract, {"purchase_order": body.purchase_order})
    if body.currency is not None:
        other += others(contract, {"currency": body.currency})
    terms = {"plan_id": body.plan, "seats": body.seats, "discount_percent": body.discount_percent}
    other += others(signed, {**terms, "effective_on": body.starts_on})
    if body.plan_version is not None:
        other += others(signed, {"plan_version": body.plan_version})
    if not _same_add_ons(body.add_ons, signed.extras.add_ons):
        other.append("add_ons")
    refuse_other("a subscription", [_CALLERS.get(name, name) for name in other])


_CALLERS = {"customer_id": "customer", "entity_id": "entity", "plan_id": "plan", "effective_on": "starts_on"}
"""What callers call it."""


def _same_add_ons(wanted: Sequence[AddOnIn], stored: Sequence[AddOnSold]) -> bool:
    return len(wanted) == len(stored) and all(
        (mine.plan, Decimal(mine.count)) == (its.plan_id, its.count) and mine.version in (None, its.version)
        for mine, its in zip(wanted, stored, strict=True)
    )


def refuse_other_cancellation(standing: Cancellation, subscription_id: str, body: CancellationIn) -> None:
    asked: dict[str, object] = {"subscription_id": subscription_id, "reason": body.reason}
    if isinstance(body.when, date):
        asked["effective_on"] = body.when
    refuse_other("a request", others(standing, asked))
