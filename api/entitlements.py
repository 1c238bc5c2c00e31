"""What a customer may use, by the terms of the subscriptions that run."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fastapi import APIRouter
from sqlmodel import Session

from api.access import Database, Reader
from billing.period import local_day
from billing.plan import Entitlement
from billing.quantity import added_up
from billing.terms import in_force
from models.customer import customer
from models.entity import now_on
from models.standing import running_of

router = APIRouter(prefix="/v1/customers", tags=["Customers"])


@dataclass(frozen=True, slots=True)
class Granted:
    """What one subscription gives of a feature, and by which version of which plan."""

    subscription: str
    plan: str
    plan_version: int
    enabled: bool
    limit: Decimal | None
    value: str | None


@dataclass(frozen=True, slots=True)
class FeatureGranted:
    """What a customer has of a feature: it is on if one subscription gives it, and limits of several add up.

    Of values, the one of the subscription that was begun last counts.
    """

    feature: str
    enabled: bool
    limit: Decimal | None
    value: str | None
    granted_by: list[Granted]


@router.get("/{customer_id}/entitlements")
def list_entitlements(customer_id: str, session: Database, key: Reader) -> list[FeatureGranted]:
    """Every feature that the customer's running subscriptions name, by the terms in force today."""
    customer(session, customer_id)
    given: dict[str, list[Granted]] = {}
    for feature, granted in _granted(session, customer_id):
        given.setdefault(feature, []).append(granted)
    return [_together(feature, some) for feature, some in sorted(given.items())]


def _granted(session: Session, customer_id: str) -> list[tuple[str, Granted]]:
    """Feature by feature, subscriptions in the order in which they began."""
    found: list[tuple[str, Granted]] = []
    running = sorted(running_of(session, customer_id), key=lambda one: (one.anchor, one.subscription_id))
    now = {clock_id: now_on(session, clock_id) for clock_id in {one.clock_id for one in running}}
    for one in running:
        plan = in_force(one.history, local_day(now[one.clock_id], one.zone)).plan
        found += [
            (given.feature, _by(one.subscription_id, plan.plan_id, plan.version, given)) for given in plan.entitlements
        ]
    return found


def _by(subscription_id: str, plan_id: str, version: int, given: Entitlement) -> Granted:
    return Granted(subscription_id, plan_id, version, given.enabled, given.limit, given.value)


def _together(feature: str, given: list[Granted]) -> FeatureGranted:
    on = [granted for granted in given if granted.enabled]
    limits = [granted.limit for granted in on if granted.limit is not None]
    values = [granted.value for granted in on if granted.value is not None]
    return FeatureGranted(
        feature,
        bool(on),
        added_up(limits) if limits else None,
        values[-1] if values else None,
        given,
    )
