"""Prepaid credits: what was granted and what was drawn; the balance is the difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlmodel import Field, Session, SQLModel

from billing.credits import Grant
from billing.money import Money
from models.database import cursor
from models.values import large, moment


class CreditGrant(SQLModel, table=True):
    """Credit bought on an invoice; it can be used once that is paid (`usable_from`)."""

    __tablename__ = "credit_grant"
    id: str = Field(primary_key=True)
    customer_id: str = Field(foreign_key="customer.id")
    contract_id: str = Field(foreign_key="contract.id")
    invoice_id: str = Field(foreign_key="invoice.id")
    currency: str
    amount_minor: int = large()
    priority: int = 100
    granted_at: datetime = moment()
    usable_from: datetime | None = moment(default=None)
    expires_at: datetime | None = moment(default=None)


class CreditDraw(SQLModel, table=True):
    """What an invoice took from a grant."""

    __tablename__ = "credit_draw"
    invoice_id: str = Field(primary_key=True, foreign_key="invoice.id")
    grant_id: str = Field(primary_key=True, foreign_key="credit_grant.id")
    amount_minor: int = large()


def open_grants(session: Session, customer_ids: Sequence[str]) -> dict[tuple[str, str], list[Grant]]:
    """Usable grants with something left, by legal entity and customer: a seller honours what it sold itself."""
    rows = cursor(session).execute(
        "select i.entity_id, g.customer_id, g.id, g.amount_minor - coalesce(sum(d.amount_minor), 0)::bigint,"
        " g.currency, g.priority, g.granted_at, g.expires_at from credit_grant g join invoice i on i.id = g.invoice_id"
        " left join credit_draw d on d.grant_id = g.id"
        " where g.customer_id = any(%s) and g.usable_from is not null group by g.id, i.entity_id order by g.id",
        (list(customer_ids),),
    )
    found: dict[tuple[str, str], list[Grant]] = defaultdict(list)
    for entity_id, customer_id, grant_id, left, currency, priority, granted_at, expires_at in rows:
        if left > 0:
            found[entity_id, customer_id].append(
                Grant(grant_id, Money(left, currency), priority, granted_at, expires_at)
            )
    return found


def make_usable(session: Session, invoice_id: str, at: datetime) -> None:
    """Credits bought on that invoice can be used from now on."""
    cursor(session).execute(
        "update credit_grant set usable_from = %s where invoice_id = %s and usable_from is null", (at, invoice_id)
    )
