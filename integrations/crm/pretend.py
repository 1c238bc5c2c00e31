"""A CRM in memory, for tests: it is told which deals are won, keeps what it is told back, and fails on order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Lock

from billing.errors import Broken, Fault, Refused, Unavailable
from integrations.crm import Deal, DealStatus, UnreadableDeal

_OPENED_AT = datetime(2026, 1, 1, tzinfo=UTC)

# A deal with nothing remarkable about it; take it and `replace` what a test is about.
SAMPLE = Deal(
    crm="pretend",
    deal_id="deal_1",
    modified_at=_OPENED_AT,
    account_id="account_1",
    account_name="Acme GmbH",
    email="billing@acme.example",
    country="DE",
    time_zone="Europe/Berlin",
    vat_id="DE136695976",
    address="Hauptstraße 1\n10115 Berlin",
    entity="de",
    plan="team",
    seats=Decimal(25),
    starts_on=date(2026, 1, 1),
    currency="EUR",
    discount_percent=Decimal(10),
    prepaid_credit=Decimal(0),
    purchase_order=None,
)


class PretendCrm:
    """Safe to use from several threads. Its clock starts in 2026 and moves a millisecond with each change."""

    name = "pretend"

    def __init__(self) -> None:
        self._deals: dict[str, Deal | UnreadableDeal] = {}
        self._lock = Lock()
        self._changes = 0
        self._failures: list[Exception] = []
        self._answers_to_lose = 0
        self.told: dict[str, DealStatus] = {}
        self.changed_by_us: list[DealStatus] = []

    # What a test does to it.

    def win(self, deal: Deal) -> Deal:
        """The deal is won, or changed after that. Returned as it will be seen."""
        with self._lock:
            won = replace(deal, crm=self.name, modified_at=self._next_moment())
            self._deals[deal.deal_id] = won
            return won

    def win_unreadable(self, deal_id: str, *faults: Fault) -> UnreadableDeal:
        with self._lock:
            won = UnreadableDeal(self.name, deal_id, self._next_moment(), faults)
            self._deals[deal_id] = won
            return won

    def fail(self, failure: Exception) -> None:
        """The next call raises this and does nothing; several are used up in order."""
        with self._lock:
            self._failures.append(failure)

    def lose_answer(self) -> None:
        """The next `write_back` is done, and raises Unavailable nevertheless."""
        with self._lock:
            self._answers_to_lose += 1

    # The protocol.

    def closed_won(self, since: datetime) -> Iterator[Deal | UnreadableDeal]:
        if since.tzinfo is None:
            raise Broken(f"{since} names no moment: it has no time zone")
        with self._lock:
            self._fail_if_asked()
            found = [deal for deal in self._deals.values() if deal.modified_at >= since]
        yield from sorted(found, key=lambda deal: (deal.modified_at, deal.deal_id))

    def write_back(self, status: DealStatus) -> None:
        with self._lock:
            self._fail_if_asked()
            deal = self._deals.get(status.deal_id)
            if deal is None:
                raise Refused(
                    f"There is no deal {status.deal_id!r}.", code="not_found", remedy="See whether it was deleted."
                )
            if self.told.get(status.deal_id) != status:
                self.told[status.deal_id] = status
                self.changed_by_us.append(status)
                self._deals[status.deal_id] = replace(deal, modified_at=self._next_moment())
            if self._answers_to_lose:
                self._answers_to_lose -= 1
                raise Unavailable("The answer got lost.")

    def _fail_if_asked(self) -> None:
        if self._failures:
            raise self._failures.pop(0)

    def _next_moment(self) -> datetime:
        self._changes += 1
        return _OPENED_AT + timedelta(milliseconds=self._changes)
