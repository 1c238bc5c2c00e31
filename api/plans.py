"""Plans and add-ons: published in versions, each sold from a day on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import Session

from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Currency, Day, Id, Name, Page
from api.items import WithItems
from billing.modifiers import NO_BOUNDS, Bounds, Discount
from billing.money import Ties
from billing.period import Interval
from billing.plan import Entitlement, InCurrency, Plan, PlanItem
from models import catalog
from models.plan import AT_ONCE, PlanSale, plan, plan_sales, plans, sales, sold_from

router = APIRouter(prefix="/v1/plans", tags=["Catalog"], route_class=ExactRoute)


class PlanContent(WithItems):
    """What a version of a plan says. Write rates as text ("0.0000025"), so that no program on the way rounds them."""

    name: Name
    currency: Currency
    items: list[PlanItem]
    interval: Interval = Interval()
    kind: Literal["plan", "add_on"] = "plan"
    product: str | None = None
    discounts: list[Discount] = []
    bounds: Bounds = NO_BOUNDS
    invoice_bounds: Bounds = NO_BOUNDS
    entitlements: list[Entitlement] = []
    ties: Ties = "away_from_zero"
    in_currencies: list[InCurrency] = []

    def as_plan(self, plan_id: str) -> Plan:
        """A draft: publishing gives the version."""
        return Plan(
            plan_id,
            1,
            self.name,
            self.currency,
            tuple(self.items),
            self.interval,
            self.kind,
            self.product,
            tuple(self.discounts),
            self.bounds,
            self.invoice_bounds,
            tuple(self.entitlements),
            self.ties,
            tuple(self.in_currencies),
        )


class PlanIn(PlanContent):
    """A plan or add-on to be published. It is sold at once if `sold_from` is left out, and not yet if it is null."""

    sold_from: Day | None = None


@dataclass(frozen=True, slots=True)
class PlanOut(Plan):
    """A version of a plan or add-on, and from which day it is sold to new customers; null if it is not."""

    sold_from: date | None = None


@router.put("/{plan_id}")
def publish_plan(plan_id: Id, body: PlanIn, session: Database, key: Administrator) -> PlanOut:
    """Publish a plan as its next version. What was sold before keeps its version; the same content is no new one.

    New customers get the version at once if `sold_from` is left out. Before a roll-out send `"sold_from": null`, so
    that nobody is sold it yet.
    """
    since = body.sold_from if "sold_from" in body.model_fields_set else AT_ONCE
    return _shown(session, catalog.publish(session, body.as_plan(plan_id), datetime.now(UTC), since))


@router.get("")
def list_plans(
    session: Database,
    key: Reader,
    after: Annotated[str, Query(max_length=100)] = "",
    limit: Page = 50,
    kind: Literal["plan", "add_on"] | None = None,
) -> list[PlanOut]:
    """A page of plans and add-ons in every version, behind `after`: the id of a plan, '/' and a version."""
    plan_id, _, version = after.partition("/")
    behind = (plan_id, int(version) if version.isdecimal() and len(version) < 10 else 2**31 - 1)
    since = sales(session)
    return [
        _with(one, since.get((one.plan_id, one.version)))
        for one in plans(session, behind if after else ("", 0), limit, kind)
    ]


@router.get("/{plan_id}")
def read_plan(
    plan_id: str,
    session: Database,
    key: Reader,
    version: int | None = None,
    on: Annotated[Day | None, Field(description="The version that is sold on that day.")] = None,
) -> PlanOut:
    """A plan's newest version, the one asked for, or the one that is sold on a day."""
    return _shown(session, plan(session, plan_id, version, on))


@router.get("/{plan_id}/sales")
def list_sales(plan_id: str, session: Database, key: Reader) -> list[PlanSale]:
    """Every decision from which day on a version is sold, in order of version and time; a version's last one counts."""
    plan(session, plan_id)
    return plan_sales(session, plan_id)


def _shown(session: Session, one: Plan) -> PlanOut:
    return _with(one, sold_from(session, one.plan_id, one.version))


def _with(one: Plan, since: date | None) -> PlanOut:
    return PlanOut(**{field.name: getattr(one, field.name) for field in fields(Plan)}, sold_from=since)
