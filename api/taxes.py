"""The table of tax rates: what is known, and what a person adds."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.access import Administrator, Database, Reader
from api.bodies import ExactRoute
from api.fields import Country, Day
from models import tax
from models.tax import TaxRateRow

router = APIRouter(prefix="/v1/tax-rates", tags=["Tax"], route_class=ExactRoute)


class RateIn(BaseModel):
    """A country's standard rate in percent from its first day on; `source` says where it stands written."""

    model_config = ConfigDict(extra="forbid")
    country: Country
    valid_from: Day
    percent: Annotated[Decimal, Field(ge=0, le=100, decimal_places=4)]
    source: Annotated[str, StringConstraints(min_length=3, max_length=500)]


@router.get("")
def list_rates(session: Database, key: Reader, country: Country | None = None) -> list[TaxRateRow]:
    """Every rate with its days, or those of one country."""
    return tax.rate_rows(session, country)


@router.post("", status_code=201)
def add_rate(body: RateIn, session: Database, key: Administrator) -> TaxRateRow:
    """Add a rate; it ends the one before it. Subscriptions that waited for it go on once their task is answered.

    A rate that stands is not edited: invoices were issued at it. The same again changes nothing.
    """
    return tax.add_rate(session, TaxRateRow(**body.model_dump()))
