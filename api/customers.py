"""Customers, their aliases, tax ids and payment methods."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session
from stdnum.eu import vat

from api.access import Database, Gateways, Reader, Writer, mint
from api.bodies import ExactRoute
from api.fields import CallersId, Country, Day, LongText, Name, TimeZone, VersionBehind
from api.same_again import others, refuse_other
from billing.errors import Fault, Refused
from billing.taxes import EU
from models.customer import (
    Customer,
    CustomerAlias,
    CustomerVersion,
    PaymentMethod,
    add_aliases,
    add_customer,
    aliases_of,
    change_customer,
    customer,
    customer_versions,
    customers,
    held_customer,
)
from models.payment import collect_with
from models.reasons import EMAIL

router = APIRouter(prefix="/v1/customers", tags=["Customers"], route_class=ExactRoute)


Alias = Annotated[str, StringConstraints(min_length=1, max_length=200)]
VatId = Annotated[LongText, StringConstraints(min_length=1)]
Email = Annotated[str, StringConstraints(pattern=EMAIL, max_length=320)]


class CustomerIn(BaseModel):
    """A customer. Bring your own `id` (or have one made), and the names under which usage may arrive."""

    model_config = ConfigDict(extra="forbid")
    id: CallersId | None = None
    name: Name
    email: Email
    country: Country
    time_zone: TimeZone = "UTC"
    address: LongText = ""
    vat_id: VatId | None = None
    aliases: list[Alias] = []


class CustomerChange(BaseModel):
    """What is to be otherwise from now on; what is left out stays as it is, and a `vat_id` of null is taken away."""

    model_config = ConfigDict(extra="forbid")
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    country: Country = Field(default_factory=str)
    address: LongText = Field(default_factory=str)
    vat_id: VatId | None = None


class CustomerOut(BaseModel):
    """Who buys. Its time zone decides to which day a moment belongs, and stays as it is."""

    id: str
    root_id: str
    name: str
    email: str
    country: str
    time_zone: str
    address: str
    vat_id: str | None
    vat_id_verified_on: date | None
    created_at: datetime
    version: int
    aliases: list[str]


class MethodIn(BaseModel):
    """A payment method at a gateway, by the gateway's token."""

    model_config = ConfigDict(extra="forbid")
    gateway: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    token: Annotated[str, StringConstraints(min_length=3, max_length=200)]


class Verification(BaseModel):
    """Evidence that the tax id was checked with the authority on that day; None takes it back. Say which `vat_id` was
    checked, and it is refused if the customer has another one by now.
    """

    model_config = ConfigDict(extra="forbid")
    verified_on: Day | None
    vat_id: VatId | None = None


@router.post("", status_code=201)
def create_customer(body: CustomerIn, session: Database, key: Writer) -> CustomerOut:
    """Make a customer; the same again returns the one that stands, with aliases that are new. One that was changed
    since is not the same any more.
    """
    _refuse_malformed(body.country, body.vat_id)
    customer_id = body.id or mint("cus")
    facts = body.model_dump(exclude={"aliases", "id"})
    if stands := session.get(Customer, customer_id):
        refuse_other("a customer", others(stands, facts))
    row = Customer(**facts, id=customer_id, root_id=customer_id, created_at=datetime.now(UTC))
    return _out(session, [add_customer(session, row, body.aliases, by_key=key)])[0]


def _refuse_malformed(country: str, vat_id: str | None) -> None:
    if vat_id and country in EU and not vat.is_valid(vat_id):
        fault = Fault("vat_id", f"{vat_id!r} is not a well-formed European tax id (check digits)")
        remedy = "Correct the tax id, or leave it out: without one, tax is charged."
        raise Refused("The tax id is malformed.", code="invalid_vat_id", faults=[fault], remedy=remedy)


@router.get("")
def list_customers(
    session: Database, key: Reader, after: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[CustomerOut]:
    """A page of customers, behind the id `after`."""
    return _out(session, customers(session, after, limit))


@router.get("/{customer_id}")
def read_customer(customer_id: str, session: Database, key: Reader) -> CustomerOut:
    """One customer, by its id; an alias is no id, and the refusal says whose it is."""
    return _out(session, [customer(session, customer_id)])[0]


@router.patch("/{customer_id}")
def edit_customer(customer_id: str, body: CustomerChange, session: Database, key: Writer) -> CustomerOut:
    """Change a customer for all that is issued from now on; what is issued already keeps what it printed. Another
    country or tax id counts for tax from the next invoice on, and a tax id has then to be verified anew.
    """
    row = change_customer(session, customer_id, body.model_dump(exclude_unset=True), by_key=key)
    if body.model_fields_set & {"country", "vat_id"}:
        _refuse_malformed(row.country, row.vat_id)
    return _out(session, [row])[0]


@router.get("/{customer_id}/versions")
def read_customer_versions(
    customer_id: str,
    session: Database,
    key: Reader,
    after: VersionBehind = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[CustomerVersion]:
    """How the customer was printed, since when and by whose key; a page in order, behind the version `after`."""
    return customer_versions(session, customer(session, customer_id).id, after, limit)


def _out(session: Session, rows: Sequence[Customer]) -> list[CustomerOut]:
    session.flush()
    aliases = aliases_of(session, [row.id for row in rows])
    return [CustomerOut(**row.model_dump(), aliases=aliases[row.id]) for row in rows]


@router.put("/{customer_id}/payment-method")
def set_payment_method(
    customer_id: str, body: MethodIn, session: Database, gateways: Gateways, key: Writer
) -> PaymentMethod:
    """Charge this method from now on; open invoices whose payment is not under way are charged to it soon. The same
    method again stays as it is.
    """
    customer(session, customer_id)
    if body.gateway not in gateways:
        fault = Fault("gateway", f"must be one of this installation's: {', '.join(gateways)}")
        raise Refused(
            "The payment method could not be charged here.",
            code="unknown_gateway",
            faults=[fault],
            remedy="Store the method at one of these gateways, and send its token there.",
        )
    stored = session.get(PaymentMethod, customer_id)
    if stored is None or (stored.gateway, stored.token) != (body.gateway, body.token):
        new = PaymentMethod(customer_id=customer_id, added_at=datetime.now(UTC), **body.model_dump())
        stored = session.merge(new)
    collect_with(session, stored)
    return stored


class AliasIn(BaseModel):
    """Another name under which the customer's events arrive."""

    model_config = ConfigDict(extra="forbid")
    alias: Alias


@router.post("/{customer_id}/aliases", status_code=201)
def add_alias(customer_id: str, body: AliasIn, session: Database, key: Writer) -> CustomerAlias:
    """Attribute events under that name to the customer. Those in quarantine wait for a replay."""
    customer(session, customer_id)
    [added] = add_aliases(session, customer_id, {"alias": body.alias})
    return added


@router.put("/{customer_id}/tax-id-verification")
def verify_tax_id(customer_id: str, body: Verification, session: Database, key: Writer) -> CustomerOut:
    """State that the tax id was verified. Until then tax is charged as if there were none."""
    row = held_customer(session, customer_id)
    if row.vat_id is None:
        raise Refused(
            "The customer has no tax id.",
            code="no_vat_id",
            faults=[Fault("vat_id", "is not set")],
            remedy="Give it one first (PATCH /v1/customers/{id}).",
        )
    if body.vat_id not in (None, row.vat_id):
        raise Refused(
            "Another tax id was verified.",
            code="other_vat_id",
            faults=[Fault("vat_id", f"is not that of the customer, which is {row.vat_id!r}")],
            remedy="Verify the one that the customer has now.",
        )
    row.vat_id_verified_on = body.verified_on
    return _out(session, [row])[0]
