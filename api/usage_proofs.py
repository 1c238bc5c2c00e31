"""The events behind what an invoice bills: what was signed when it was issued, and what is stored now."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import Database, Reader
from api.bodies import ExactRoute
from billing.errors import NotFound
from billing.usage_proof import EventSet
from models import invoice, usage_check
from models.usage_check import Checked, SetDifference, Verdict

router = APIRouter(prefix="/v1/invoices", tags=["Invoices"], route_class=ExactRoute)


class SetOfEvents(BaseModel):
    """A set of events: how many, and a digest by which it is known again."""

    events: int
    digest: str


class Since(BaseModel):
    """How many events tell the set of now from that which was signed."""

    came: int
    void: int
    counted: int
    not_counted: int
    altered: int


class ProvedLine(BaseModel):
    """A meter's events behind a line of an invoice: as they were signed, made again, and as they are now."""

    line_no: int
    description: str
    item: str
    meter: str
    customer_id: str
    first_day: date
    last_day: date
    with_earlier: bool
    signed_at: datetime
    signed: SetOfEvents | None
    then: SetOfEvents | None
    now: SetOfEvents | None
    verdict: Verdict
    since: Since
    differences: list[SetDifference]
    months_taken_away: list[date]


class UsageProved(BaseModel):
    """The proof of all usage that an invoice bills. `holds` says that every line's set is the one that was signed; if
    not, `verdict` is the worst of the lines', and nothing is wrong unless it is broken.
    """

    number: str
    holds: bool
    verdict: Verdict
    lines: list[ProvedLine]


@router.get("/{invoice_id}/usage-proof")
def prove_usage(
    invoice_id: str, session: Database, key: Reader, line: Annotated[int | None, Query(ge=1, le=1_000_000)] = None
) -> UsageProved:
    """The set of events behind each line of usage, signed when it was billed, made again from the stored events.

    What came, was made void or was counted anew since is told, so that every difference has a name. Of an invoice with
    more than 500,000 events ask line by line: a million take about fifty seconds.
    """
    seen = invoice.summary(session, invoice_id)
    found = usage_check.check(session, seen.id, line)
    if line is not None and not found:
        remedy = "Leave out `line`: the proof has every line of usage of the invoice, with its number."
        raise NotFound("line of usage", f"{seen.number}/{line}", remedy=remedy)
    verdict = usage_check.worst(found)
    return UsageProved(
        number=seen.number, holds=verdict == "holds", verdict=verdict, lines=[_line(one) for one in found]
    )


def _line(one: Checked) -> ProvedLine:
    signed, counts = one.signed, one.counts
    return ProvedLine(
        line_no=signed.line_no,
        description=signed.description,
        item=signed.item,
        meter=signed.meter,
        customer_id=signed.customer_id,
        first_day=signed.first_day,
        last_day=signed.last_day,
        with_earlier=signed.with_earlier,
        signed_at=signed.signed_at,
        signed=_set(signed.behind),
        then=_set(one.then),
        now=_set(one.now),
        verdict=one.verdict,
        since=Since(
            came=counts.get("came", 0),
            void=counts.get("void", 0),
            counted=counts.get("counted", 0),
            not_counted=counts.get("not_counted", 0),
            altered=counts.get("altered", 0),
        ),
        differences=list(one.differences),
        months_taken_away=list(one.missing),
    )


def _set(found: EventSet | None) -> SetOfEvents | None:
    return None if found is None else SetOfEvents(events=found.events, digest=f"{found.digest:032x}")
