"""What is to be billed: facts read in sets, the engine asked, nothing stored. For runs, previews and dry runs alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from billing.biller import Bill, Facts, Occasion, bill
from billing.credits import Grant
from billing.errors import Refused
from billing.invoice import Invoice
from billing.standing import Standing
from models.credit import open_grants
from models.tax import rates
from models.usage import folded


@dataclass(frozen=True, slots=True)
class Parked:
    """A root that a person has to look at before it can be billed."""

    root_id: str
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Rated:
    """Bills, who is parked instead, and the moment of the usage that was billed (models/usage.py)."""

    bills: list[Bill]
    parked: list[Parked]
    snapshot: str


def rated(session: Session, found: Sequence[Standing], occasion: Occasion) -> Rated:
    """The bills of those subscriptions, nothing stored; a refused one parks its whole root."""
    active = [s for s in found if s.lanes]
    customers = sorted({s.customer_id for s in active})
    used = folded(session, customers)
    grants = open_grants(session, customers)
    table = rates(session, {c for s in active for c in (s.parties.seller_country, s.parties.buyer_country)})
    bills: list[Bill] = []
    parked: dict[str, Parked] = {}
    for one in active:
        wallet = (one.entity_id, one.customer_id)
        try:
            its = used[one.customer_id]
            done = bill(one, Facts(its.totals, table, grants.get(wallet, ()), its.sets), occasion)
        except Refused as refusal:
            parked[one.root_id] = Parked(one.root_id, refusal)
            continue
        bills.append(done)
        if done.invoice and done.invoice.draws:
            grants[wallet] = _less(grants[wallet], done.invoice)
    snapshot = next((its.snapshot for its in used.values()), "")
    return Rated([b for b in bills if b.standing.root_id not in parked], list(parked.values()), snapshot)


def _less(grants: Sequence[Grant], document: Invoice) -> list[Grant]:
    """What is left of a customer's credits for the next of its subscriptions in the same batch."""
    drawn = {d.grant_id: d.amount for d in document.draws}
    return [replace(g, remaining=g.remaining - drawn[g.grant_id]) if g.grant_id in drawn else g for g in grants]
