"""Customers, their aliases, tax ids and payment methods."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from stdnum.eu import vat

from api.access import Database, Reader, Writer, mint
from api.entities import Country, Name
from billing.errors import Fault, Refused
from billing.period import zone
from billing.taxes import EU
from models.customer import Customer, CustomerAlias, PaymentMethod, add_customer, customer, customers

router = APIRouter(prefix="/v1/customers", tags=["Customers"])


class CustomerIn(BaseModel):
    """A customer. Bring your own `id` (or have one made), and the names under which usage may arrive."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{2,64}$")] | None = None
    name: Name
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]
    country: Country
    time_zone: str = "UTC"
    address: str = ""
    vat_id: str | None = None
    aliases: list[str] = []


class MethodIn(BaseModel):
    """A payment method at a gateway, by the gateway's token."""

    model_config = ConfigDict(extra="forbid")
    gateway: str
    token: Annotated[str, StringConstraints(min_length=3, max_length=200)]


class Verification(BaseModel):
    """Evidence that the tax id was checked with the authority on that day; None takes it back."""

    model_config = ConfigDict(extra="forbid")
    verified_on: date | None


@router.post("", status_code=201)
def create_customer(body: CustomerIn, session: Database, key: Writer) -> Customer:
    """Make a customer; the same id again returns the one that stands."""
    zone(body.time_zone)
    if body.vat_id and body.country in EU and not vat.is_valid(body.vat_id):
        fault = Fault("vat_id", f"{body.vat_id!r} is not a well-formed European tax id (check digits)")
        raise Refused("The customer cannot be made.", code="invalid_vat_id", faults=[fault])
    customer_id = body.id or mint("cus")
    row = Customer(
        **body.model_dump(exclude={"aliases", "id"}), id=customer_id, root_id=customer_id, created_at=datetime.now(UTC)
    )
    return add_customer(session, row, body.aliases)


@router.get("")
def list_customers(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[Customer]:
    """A page of customers, behind the id `after`."""
    return customers(session, after, limit)


@router.get("/{customer_id}")
def read_customer(customer_id: str, session: Database, key: Reader) -> Customer:
    """One customer."""
    return customer(session, customer_id)


@router.put("/{customer_id}/payment-method")
def set_payment_method(customer_id: str, body: MethodIn, session: Database, key: Writer) -> PaymentMethod:
    """Charge this method from now on."""
    customer(session, customer_id)
    return session.merge(PaymentMethod(customer_id=customer_id, added_at=datetime.now(UTC), **body.model_dump()))


class AliasIn(BaseModel):
    """Another name under which the customer's events arrive."""

    model_config = ConfigDict(extra="forbid")
    alias: Annotated[str, StringConstraints(min_length=1, max_length=200)]


@router.post("/{customer_id}/aliases", status_code=201)
def add_alias(customer_id: str, body: AliasIn, session: Database, key: Writer) -> CustomerAlias:
    """Attribute events under that name to the customer. Those in quarantine wait for a replay."""
    customer(session, customer_id)
    standing = session.get(CustomerAlias, body.alias)
    if standing is None:
        standing = CustomerAlias(alias=body.alias, customer_id=customer_id)
        session.add(standing)
    if standing.customer_id != customer_id:
        fault = Fault("alias", f"belongs to {standing.customer_id}")
        raise Refused("The alias is taken.", code="conflict", faults=[fault])
    return standing


@router.put("/{customer_id}/tax-id-verification")
def verify_tax_id(customer_id: str, body: Verification, session: Database, key: Writer) -> Customer:
    """State that the tax id was verified. Until then tax is charged as if there were none."""
    row = customer(session, customer_id)
    if row.vat_id is None:
        raise Refused("The customer has no tax id.", code="no_vat_id", faults=[Fault("vat_id", "is not set")])
    row.vat_id_verified_on = body.verified_on
    return row
