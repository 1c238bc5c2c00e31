"""The recipes: which entry each cause makes. One entry per cause, balanced, its id derived from the cause.

Invoicing credits the contract position, recognition debits it, in either order: its balance is deferred revenue
when credit and unbilled revenue when debit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from billing.chart import (
    CASH,
    CONTRACT_POSITION,
    CREDIT_WALLETS,
    PROVIDER_CLEARING,
    RECEIVABLES,
    REVENUE,
    TAX_PAYABLE,
    Account,
    Side,
)
from billing.errors import Broken
from billing.ids import derive
from billing.invoice import Invoice
from billing.money import Money
from billing.period import Period
from billing.revenue import Obligation

CauseKind = Literal["invoice", "credit_draw", "payment", "transfer", "recognition"]


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of an entry, with what it is about. `amount` is never negative."""

    account: str
    side: Side
    amount: Money
    customer_id: str | None = None
    contract_id: str | None = None
    obligation_id: str | None = None
    invoice_id: str | None = None
    invoice_line_id: str | None = None
    product_id: str | None = None
    period: Period | None = None
    tax_code: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced journal entry. (`cause_kind`, `cause_id`) is its key: posting twice is impossible."""

    entity_id: str
    posted_on: date
    cause_kind: CauseKind
    cause_id: str
    description: str
    postings: tuple[Posting, ...]
    refers_to: str | None = None

    @property
    def entry_id(self) -> str:
        return derive("je", self.cause_kind, self.cause_id)


def _entry(entry: Entry) -> Entry:
    """The entry without its zero postings, with negative ones on the other side; it must balance."""
    postings = tuple(_upright(p) for p in entry.postings if p.amount)
    balance = sum(p.amount.minor if p.side == "D" else -p.amount.minor for p in postings)
    if balance:
        raise Broken(f"entry for {entry.cause_kind} {entry.cause_id} is out of balance by {balance}")
    return replace(entry, postings=postings)


def _upright(posting: Posting) -> Posting:
    if posting.amount.minor >= 0:
        return posting
    return replace(posting, side="C" if posting.side == "D" else "D", amount=-posting.amount)


def debit(account: Account, amount: Money) -> Posting:
    return Posting(account.number, "D", amount)


def credit(account: Account, amount: Money) -> Posting:
    return Posting(account.number, "C", amount)


def invoice_issued(invoice: Invoice, line_ids: Sequence[str], obligation_ids: Sequence[str | None]) -> Entry:
    """Receivables gross; contract position net, line by line (credits bought: the wallet); tax by rate group.

    `line_ids` and `obligation_ids` stand beside the invoice's lines.
    """
    head = invoice.heading
    lines = [
        replace(
            credit(CONTRACT_POSITION if line.taxable else CREDIT_WALLETS, line.net),
            invoice_line_id=line_id,
            product_id=line.product,
            obligation_id=obligation_id,
            period=line.period,
        )
        for line, line_id, obligation_id in zip(invoice.lines, line_ids, obligation_ids, strict=True)
    ]
    taxes = [
        replace(credit(TAX_PAYABLE, t.tax), tax_code=f"{t.jurisdiction}-{t.category}-{t.percent}")
        for t in invoice.taxes
    ]
    about = [
        replace(p, customer_id=head.customer_id, contract_id=head.contract_id, invoice_id=head.invoice_id)
        for p in (debit(RECEIVABLES, invoice.total), *lines, *taxes)
    ]
    return _entry(Entry(head.entity_id, head.issued_on, "invoice", head.invoice_id, "Invoice issued", tuple(about)))


def credits_drawn(invoice: Invoice) -> Entry | None:
    """A tender: the wallet pays part of the receivable. None if nothing was drawn."""
    if not invoice.drawn:
        return None
    head = invoice.heading
    about = [
        replace(p, customer_id=head.customer_id, contract_id=head.contract_id, invoice_id=head.invoice_id)
        for p in (debit(CREDIT_WALLETS, invoice.drawn), credit(RECEIVABLES, invoice.drawn))
    ]
    return _entry(
        Entry(
            head.entity_id,
            head.issued_on,
            "credit_draw",
            head.invoice_id,
            "Prepaid credit drawn",
            tuple(about),
        )
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """Money that came for one invoice; `cause_id` is the payment's or the transfer's."""

    cause_id: str
    entity_id: str
    customer_id: str
    contract_id: str
    invoice_id: str
    amount: Money
    posted_on: date


def payment_captured(receipt: Receipt) -> Entry:
    """The provider owes us what the customer owed."""
    return _received(receipt, PROVIDER_CLEARING, "payment", "Card payment captured")


def transfer_received(receipt: Receipt) -> Entry:
    """The bank has what the customer owed; or, if it is less than nothing, has it no more."""
    what = "Bank transfer received" if receipt.amount.minor > 0 else "Bank transfer returned"
    return _received(receipt, CASH, "transfer", what)


def _received(receipt: Receipt, where: Account, kind: CauseKind, description: str) -> Entry:
    about = [
        replace(p, customer_id=receipt.customer_id, contract_id=receipt.contract_id, invoice_id=receipt.invoice_id)
        for p in (debit(where, receipt.amount), credit(RECEIVABLES, receipt.amount))
    ]
    return _entry(Entry(receipt.entity_id, receipt.posted_on, kind, receipt.cause_id, description, tuple(about)))


def revenue_recognised(
    entity_id: str,
    contract_id: str,
    customer_id: str,
    obligations: Sequence[tuple[Obligation, Money]],
    posted_on: date,
    earlier: int,
) -> Entry:
    """One contract's month: for each obligation the difference between what should be and what was posted.

    A month may be recognised again when more has become known. Its key therefore says how many obligations were
    posted `earlier` in the same month: the same step done twice is one entry, a further difference is another, also one
    that takes back what the last one brought.
    """
    postings: list[Posting] = []
    for obligation, amount in obligations:
        pair = (debit(CONTRACT_POSITION, amount), credit(REVENUE[obligation.revenue], amount))
        postings += [
            replace(
                p,
                customer_id=customer_id,
                contract_id=contract_id,
                obligation_id=obligation.obligation_id,
                period=obligation.period,
            )
            for p in pair
        ]
    cause = derive("rec", contract_id, posted_on, earlier)
    return _entry(Entry(entity_id, posted_on, "recognition", cause, "Revenue recognised", tuple(postings)))
