"""Delivering the outbox: whatever a transaction wanted a neighbour to know, under the id of its cause."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from time import monotonic, sleep

import structlog
from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.printing import printable
from activities.pulse import heartbeating
from activities.rendering import render_invoice
from activities.settling import status_of
from billing.errors import Broken, Refused
from integrations.crm import Crm, DealStatus
from models import outbox, task
from models.database import cursor, transaction
from models.entity import now_on
from models.outbox import DOORS, Delivery
from models.outbox import Door as Door
from models.subscription import subscription

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeliverFor:
    """Deliver one door's outbox for about `seconds`, then return."""

    door: Door
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Drain:
    """Deliver everything of a test clock now."""

    clock_id: str


class Deliveries:
    """One method a door. Each may be called again with the same delivery and has its effect once."""

    def __init__(self, engine: Engine, crm: Crm) -> None:
        self.engine = engine
        self.crm = crm

    @activity.defn
    def deliver(self, command: DeliverFor) -> int:
        """A courier's shift: deliver what is there, then look again every half second."""
        end, done = monotonic() + command.seconds, 0
        with heartbeating():
            while monotonic() < end and not activity.is_worker_shutdown():
                moved = self._some(command.door)
                done += moved
                if not moved:
                    sleep(0.5)
        return done

    @activity.defn
    def drain(self, command: Drain) -> int:
        """Until nothing of that clock waits; what failed is left to its own time."""
        done = 0
        with heartbeating():
            while True:
                moved = sum(self._some(door) for door in DOORS)
                done += moved
                with transaction(self.engine) as session:
                    left = outbox.undelivered(session, command.clock_id)
                if not left:
                    return done
                if not moved:
                    sleep(0.1)

    def _some(self, door: Door) -> int:
        with transaction(self.engine) as session:
            claimed = outbox.claim(session, door, 50)
        for delivery in claimed:
            try:
                self._one(door, delivery)
            except Exception as error:
                log.warning("delivery failed", door=door, delivery=delivery.id, error=str(error))
                with transaction(self.engine) as session:
                    outbox.failed(session, delivery.id, f"{type(error).__name__}: {error}")
                    if isinstance(error, Refused | Broken):
                        _ask(session, door, delivery, error)
            else:
                with transaction(self.engine) as session:
                    outbox.delivered(session, delivery.id)
                    if delivery.attempts > 1:
                        now = now_on(session, delivery.clock_id)
                        task.close_tasks(session, _subject(door, delivery), now, "delivered")
        return len(claimed)

    def _one(self, door: Door, delivery: Delivery) -> None:
        match door:
            case "crm":
                self._write_back(delivery)
            case "documents":
                self._render(delivery)

    def _write_back(self, delivery: Delivery) -> None:
        """How the subscription stands now, whatever it was when this was posted: deliveries overtake each other."""
        deal_id, subscription_id = delivery.payload["deal_id"], delivery.payload["subscription_id"]
        told = ""
        while told != (status := self._status(subscription_id)):
            self.crm.write_back(DealStatus(deal_id, subscription_id, status))
            told = status

    def _status(self, subscription_id: str) -> str:
        with transaction(self.engine) as session:
            return status_of(subscription(session, subscription_id))

    def _render(self, delivery: Delivery) -> None:
        """Print the invoice once; what is stored stays as it is."""
        invoice_id = delivery.payload["invoice_id"]
        with transaction(self.engine) as session:
            document = printable(session, invoice_id)
        content = render_invoice(document)
        if not content.startswith(b"%PDF"):
            raise Broken(f"invoice {invoice_id} did not become a PDF")
        with transaction(self.engine) as session:
            cursor(session).execute(
                "insert into document (invoice_id, media_type, sha256, content) values (%s, %s, %s, %s)"
                " on conflict do nothing",
                (invoice_id, "application/pdf", hashlib.sha256(content).hexdigest(), content),
            )


def _ask(session: Session, door: Door, delivery: Delivery, error: Refused | Broken) -> None:
    """Time alone does not mend it: a person gets to know, once, until it is delivered after all."""
    names = ", ".join(f"{name} {value}" for name, value in sorted(delivery.payload.items()))
    remedy = f"{error.remedy} " if isinstance(error, Refused) and error.remedy else ""
    question = Refused(
        f"Not delivered to {door} ({names}): {error}",
        remedy=f"{remedy}It is tried again every ten minutes; this closes by itself when it has gone out.",
    )
    subject, now = _subject(door, delivery), now_on(session, delivery.clock_id)
    task.open_task(session, "delivery", subject, delivery.entity_id, question, now)


def _subject(door: Door, delivery: Delivery) -> str:
    return f"delivery/{door}/{delivery.id}"
