"""Bank transfers that came for invoices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.access import Database, Writer
from api.bodies import ExactRoute
from api.fields import CallersId, Day, KnownCurrency, LongText
from api.same_again import others, refuse_other
from models import invoice, reasons
from models.transfer import BankTransfer, receive_transfer

router = APIRouter(prefix="/v1", tags=["Invoices"], route_class=ExactRoute)


def _not_nothing(minor: int) -> int:
    if not minor:
        raise ValueError(reasons.NOT_NOTHING)
    return minor


class TransferIn(BaseModel):
    """Money that the bank says came for an invoice, or went back. Bring an `id` that it has once and for ever, such as
    the bank's.
    """

    model_config = ConfigDict(extra="forbid")
    id: CallersId
    amount_minor: Annotated[int, Field(ge=-(10**15), le=10**15), AfterValidator(_not_nothing)]
    currency: KnownCurrency
    received_on: Day
    reference: LongText = ""


@router.post("/invoices/{invoice_id}/transfers", status_code=201)
def record_transfer(invoice_id: str, body: TransferIn, session: Database, key: Writer) -> BankTransfer:
    """Record that the invoice was paid by bank transfer, as a whole or in part; the same again returns the one that
    stands. It is posted on its value date, or if that month is closed, on the first day of the one that is open.

    What is still open is collected as before; an invoice that is paid by it is not collected any more. Of what came
    beyond what was owed a person is told by a task. What came back, was given back or was recorded wrongly is a
    transfer of less than 0; what is open again by it is collected again, from the day on which the invoice is due.
    """
    wanted = {**body.model_dump(), "invoice_id": invoice.summary(session, invoice_id).id}
    row = receive_transfer(session, BankTransfer(**wanted, by_key=key))
    refuse_other("a transfer", others(row, wanted))
    return row
