"""The door to customer relationship systems: deals come in, the state of what was sold goes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from billing.errors import Fault


@dataclass(frozen=True, slots=True)
class Deal:
    """A signed deal, in our words. Optional facts are None when the CRM has none."""

    crm: str
    deal_id: str
    modified_at: datetime
    account_id: str
    account_name: str
    email: str
    country: str
    time_zone: str
    vat_id: str | None
    address: str
    entity: str
    plan: str
    seats: Decimal
    starts_on: date
    currency: str
    discount_percent: Decimal
    prepaid_credit: Decimal
    purchase_order: str | None


@dataclass(frozen=True, slots=True)
class UnreadableDeal:
    """A won deal whose facts are missing or make no sense; a person gets to see why."""

    crm: str
    deal_id: str
    modified_at: datetime
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class DealStatus:
    """What we tell the CRM about a deal that we run."""

    deal_id: str
    subscription_id: str
    status: str


class Crm(Protocol):
    """One CRM. Unreachable or rate limited raises `Unavailable`; wrong credentials or fields raise `Refused`."""

    def closed_won(self, since: datetime) -> Iterator[Deal | UnreadableDeal]:
        """Deals won and changed at or after `since`, ordered by change time and then id, over all pages.

        One bad deal does not hold up the others: it comes as `UnreadableDeal`. A deal comes again whenever it changed,
        also when the change was our own `write_back`; whoever reads must not mind. A CRM shows a change only when its
        transaction is over, which may be minutes after `modified_at`: let `since` overlap what was read before.
        """

    def write_back(self, status: DealStatus) -> None:
        """Set the subscription's id and status on the deal. Repeating it changes nothing, not even `modified_at`.

        Refused with code `not_found` if the deal is gone.
        """
