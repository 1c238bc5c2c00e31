"""From the CRM: reading won deals by watermark, and making customer, contract and subscription of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from activities.pulse import heartbeating, heartbeating_async
from activities.settling import tell_crm
from billing.errors import Broken, Fault, Refused
from billing.ids import derive
from billing.period import zone
from integrations.crm import Crm, Deal, UnreadableDeal
from models import crm as inbox
from models import task
from models.catalog import plan
from models.crm import BEGINNING, CrmInbox
from models.customer import Customer, add_customer, known_as
from models.database import transaction
from models.entity import entity, now_on
from models.signing import Agreement, sign, today_of
from models.values import read, to_json

LIFECYCLE_QUEUE = "lifecycle"


@dataclass(frozen=True, slots=True)
class DealRef:
    """A deal in the inbox."""

    crm: str
    deal_id: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The subscription that a deal became."""

    subscription_id: str
    customer_id: str
    entity_id: str


@dataclass(frozen=True, slots=True)
class Intake:
    """What a reading of the CRM found."""

    read: int
    unreadable: int


class Onboarding:
    """Reads the CRM and starts workflows; the tables remember what was done."""

    def __init__(self, engine: Engine, name: str, crm: Crm, client: Client, since: datetime = BEGINNING) -> None:
        self.engine = engine
        self.name = name
        self.crm = crm
        self.client = client
        self.since = since

    @activity.defn
    def read_deals(self) -> Intake:
        """Everything won and changed since the watermark goes to the inbox; what cannot be read, to a person."""
        with transaction(self.engine) as session:
            since = inbox.read_from(session, self.name, self.since)
        seen = unreadable = 0
        with heartbeating():
            for found in self.crm.closed_won(since):
                seen += 1
                unreadable += isinstance(found, UnreadableDeal)
                with transaction(self.engine) as session:
                    _keep(session, found)
        return Intake(seen, unreadable)

    @activity.defn
    async def hand_over(self) -> int:
        """Start `Onboarding` for every deal that nobody has accepted; one that runs is not started again."""
        waiting = await asyncio.to_thread(self._waiting)
        async with heartbeating_async():
            await self._start(waiting)
        return len(waiting)

    def _waiting(self) -> Sequence[str]:
        with transaction(self.engine) as session:
            return inbox.waiting(session, self.name)

    async def _start(self, deal_ids: Sequence[str]) -> None:
        for deal_id in deal_ids:
            start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
                "Onboarding",
                DealRef(self.name, deal_id),
                id=f"onboarding/{self.name}/{deal_id}",
                task_queue=LIFECYCLE_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )
            await self.client.execute_update_with_start_workflow(
                "accept", start_workflow_operation=start, id=deal_id, result_type=str
            )

    @activity.defn
    def open_account(self, ref: DealRef) -> Opened:
        """Customer, contract, terms and subscription of a deal, in one transaction; the second time finds the first."""
        with transaction(self.engine) as session:
            row = session.get(CrmInbox, (ref.crm, ref.deal_id), with_for_update=True)
            if row is None:
                raise Broken(f"deal {ref.deal_id} is not in the inbox")
            if row.faults:
                raise _unreadable(ref.deal_id, row.faults)
            deal = read(Deal, row.deal)
            seller = entity(session, deal.entity)
            now = now_on(session, seller.clock_id)
            buyer = _customer_of(session, deal, now)
            sub = sign(session, _agreement(session, deal, buyer), now)
            row.accepted_at = row.accepted_at or now
            tell_crm(session, sub.id)
            return Opened(sub.id, buyer.id, seller.id)


def _customer_of(session: Session, deal: Deal, now: datetime) -> Customer:
    """Whoever is known by the account already, or a new customer."""
    if known := known_as(session, deal.account_id):
        return known
    customer_id = derive("cus", deal.crm, deal.account_id)
    zone(deal.time_zone)
    row = Customer(
        id=customer_id,
        root_id=customer_id,
        name=deal.account_name,
        email=deal.email,
        country=deal.country,
        time_zone=deal.time_zone,
        address=deal.address,
        vat_id=deal.vat_id,
        created_at=now,
    )
    return add_customer(session, row, [deal.account_id])


def _agreement(session: Session, deal: Deal, buyer: Customer) -> Agreement:
    agreed = plan(session, deal.plan, on=today_of(session, deal.entity, buyer.id))
    if deal.currency not in agreed.currencies:
        raise Refused(
            f"The deal is in {deal.currency}, the plan {deal.plan} is priced in {', '.join(agreed.currencies)}.",
            code="currency_mismatch",
            faults=[Fault("currency", "must be one of the plan's")],
            remedy="Correct the currency or the plan of the opportunity, then answer this task.",
        )
    return Agreement(
        contract_id=derive("con", deal.crm, deal.deal_id),
        subscription_id=derive("sub", deal.crm, deal.deal_id),
        customer_id=buyer.id,
        entity_id=deal.entity,
        plan=agreed,
        seats=deal.seats,
        starts_on=deal.starts_on,
        discount_percent=deal.discount_percent,
        prepaid_credit=deal.prepaid_credit,
        purchase_order=deal.purchase_order,
        crm=deal.crm,
        deal_id=deal.deal_id,
        currency=deal.currency,
    )


def _keep(session: Session, found: Deal | UnreadableDeal) -> None:
    """Into the inbox; an unreadable one becomes a person's task."""
    if isinstance(found, Deal):
        inbox.take_in(session, found.crm, found.deal_id, found.modified_at, to_json(found), [])
        task.close_tasks(session, f"deal/{found.crm}/{found.deal_id}", found.modified_at, "corrected in the CRM")
        return
    faults = [{"field": fault.field, "reason": fault.reason} for fault in found.faults]
    known = session.get(CrmInbox, (found.crm, found.deal_id))
    if known is not None and known.modified_at == found.modified_at:
        return
    inbox.take_in(session, found.crm, found.deal_id, found.modified_at, {}, faults)
    refusal = _unreadable(found.deal_id, faults)
    task.open_task(session, "deal", f"deal/{found.crm}/{found.deal_id}", None, refusal, found.modified_at)


def _unreadable(deal_id: str, faults: Sequence[dict[str, str]]) -> Refused:
    said = "; ".join(f"{fault['field']}: {fault['reason']}" for fault in faults)
    return Refused(f"Deal {deal_id} cannot be read: {said}", remedy="Correct it in the CRM; it is read again.")
