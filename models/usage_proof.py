"""Signatures of billed usage: which set of events was behind each quantity when it was billed.

The set is known by the number of its events and a digest (billing/usage_proof.py). How it is proved from the stored
events is in usage_check.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlmodel import Field, Session, SQLModel

from billing.biller import Bill
from billing.ids import derive
from models.database import copy_rows
from models.invoice import line_id
from models.values import large, moment


class UsageProof(SQLModel, table=True):
    """The set of a meter's events in a window when it was billed; `digest` is None if digests were not kept then, or
    if its quantity is of an earlier moment, at which a person was asked about it.

    `snapshot` tells which events were there. A window without a line has no invoice. `with_earlier` says that all
    events before the window are in the set too.
    """

    __tablename__ = "usage_proof"
    id: str = Field(primary_key=True)
    subscription_id: str = Field(foreign_key="subscription.id")
    customer_id: str
    item: str
    meter_id: str
    period_start: date
    period_end: date
    events: int | None = large()
    digest: Decimal | None
    snapshot: str
    signed_at: datetime = moment()
    invoice_id: str | None = Field(default=None, foreign_key="invoice.id")
    line_id: str | None = Field(default=None, foreign_key="invoice_line.id")
    with_earlier: bool = False


class UsageRecounted(SQLModel, table=True):
    """A meter began to count an event that it had not counted, or ceased to; written by the database itself."""

    __tablename__ = "usage_recounted"
    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    meter_id: str = Field(primary_key=True)
    batch: int = large(primary_key=True)
    counted: bool
    recounted_at: datetime = moment()


_COLUMNS = (
    "id subscription_id customer_id item meter_id period_start period_end events digest snapshot invoice_id line_id"
    " with_earlier"
).split()


def sign(session: Session, bills: Sequence[Bill], snapshot: str) -> None:
    """Write down which events are behind what these bills charge, in the transaction that stores them, by one COPY.

    `snapshot` is the moment of the usage that was billed.
    """
    copy_rows(session, "usage_proof", _COLUMNS, [row for one in bills for row in _rows(one, snapshot)])


def _rows(one: Bill, snapshot: str) -> list[tuple[object, ...]]:
    head = one.invoice.heading.invoice_id if one.invoice else None
    lines = {line.key: line_id(head, line) for line in one.invoice.lines} if one.invoice and head else {}
    found: list[tuple[object, ...]] = []
    for signed in one.signed:
        line = lines.get(signed.line or "")
        found.append(
            (
                derive("up", one.standing.subscription_id, signed.item, signed.meter, str(signed.period), line or ""),
                one.standing.subscription_id,
                one.standing.customer_id,
                signed.item,
                signed.meter,
                signed.period.start,
                signed.period.end,
                signed.behind and signed.behind.events,
                signed.behind and signed.behind.digest,
                snapshot,
                head if line else None,
                line,
                signed.with_earlier,
            )
        )
    return found
