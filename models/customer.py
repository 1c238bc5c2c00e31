"""Customers, the roots of their account trees, their aliases and how they pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, NotFound, Refused
from models.database import cursor
from models.party import PartyVersion, change, version_of
from models.values import moment


class AccountRoot(SQLModel, table=True):
    """The top of an account tree, and the one lock on all that is billed to it."""

    __tablename__ = "account_root"
    id: str = Field(primary_key=True)


class Customer(SQLModel, table=True):
    """Who buys. Its time zone decides to which day a moment belongs, and stays as it is. What documents print of it is
    also kept by `version`.
    """

    __tablename__ = "customer"
    id: str = Field(primary_key=True)
    root_id: str = Field(foreign_key="account_root.id")
    name: str
    email: str
    country: str
    time_zone: str
    address: str
    vat_id: str | None = None
    vat_id_verified_on: date | None = None
    created_at: datetime = moment()
    version: int = 1


class CustomerVersion(PartyVersion, table=True):
    """A customer as it is printed on what is issued from `since` on, up to the next version."""

    __tablename__ = "customer_version"
    customer_id: str = Field(primary_key=True, foreign_key="customer.id")
    version: int = Field(primary_key=True)


class CustomerAlias(SQLModel, table=True):
    """Another name under which a customer's events may arrive, such as the id in the CRM."""

    __tablename__ = "customer_alias"
    alias: str = Field(primary_key=True)
    customer_id: str = Field(foreign_key="customer.id")


class PaymentMethod(SQLModel, table=True):
    """A gateway's token for the customer's card or account; one a customer."""

    __tablename__ = "payment_method"
    customer_id: str = Field(primary_key=True, foreign_key="customer.id")
    gateway: str
    token: str
    added_at: datetime = moment()


def customer(session: Session, customer_id: str) -> Customer:
    found = session.get(Customer, customer_id)
    if found is None:
        known = session.get(CustomerAlias, customer_id)
        raise NotFound("customer", customer_id, meant=known.customer_id if known else "")
    return found


def aliases_of(session: Session, customer_ids: Sequence[str]) -> dict[str, list[str]]:
    """Each customer's aliases, in order."""
    found: dict[str, list[str]] = {customer_id: [] for customer_id in customer_ids}
    rows = cursor(session).execute(
        "select customer_id, alias from customer_alias where customer_id = any(%s) order by alias", (list(found),)
    )
    for customer_id, alias in rows:
        found[customer_id].append(alias)
    return found


def customers(session: Session, after: str, limit: int) -> list[Customer]:
    """A page in order of id, behind `after`."""
    return list(session.exec(select(Customer).where(Customer.id > after).order_by(col(Customer.id)).limit(limit)))


def names_of(session: Session, customer_ids: Sequence[str]) -> dict[str, str]:
    """Customer to name, for pages that people read."""
    rows = cursor(session).execute("select id, name from customer where id = any(%s)", (list(customer_ids),))
    return dict(rows.fetchall())


def known_as(session: Session, name: str) -> Customer | None:
    """Whose usage arrives under this name: that of an alias, or of an id."""
    alias = session.get(CustomerAlias, name)
    return session.get(Customer, alias.customer_id if alias else name)


def add_customer(session: Session, row: Customer, aliases: Sequence[str], *, by_key: str | None = None) -> Customer:
    """The customer with its own root; one that exists already stays as it is. Aliases that are new are added.

    Refused if the id, or one of the aliases, stands for another customer.
    """
    _lock_names(session)
    found = session.get(Customer, row.id)
    if found is None:
        if holder := session.get(CustomerAlias, row.id):
            fault = Fault("id", f"is an alias of {holder.customer_id}, whose usage it would take")
            raise Refused("The id is taken.", code="conflict", faults=[fault], remedy="Choose a new id.")
        session.merge(AccountRoot(id=row.root_id))
        session.flush()
        session.add(row)
        _keep_version(session, row, by_key)
        found = row
    add_aliases(session, found.id, {f"aliases.{n}": alias for n, alias in enumerate(aliases)})
    return found


def held_customer(session: Session, customer_id: str) -> Customer:
    """The customer as it stays until the commit, and nothing is billed to it meanwhile."""
    row = customer(session, customer_id)
    lock_roots(session, [row.root_id])
    session.refresh(row)
    return row


def change_customer(
    session: Session, customer_id: str, wanted: Mapping[str, object], *, by_key: str | None = None
) -> Customer:
    """The customer with other facts, for all that is issued from now on. Who verified a tax id did so for that id in
    that country, so another one of either is not verified.
    """
    row = held_customer(session, customer_id)
    before = row.version
    new = change(row, wanted)
    if new & {"country", "vat_id"}:
        row.vat_id_verified_on = None
    if row.version > before:
        _keep_version(session, row, by_key)
    return row


def _keep_version(session: Session, row: Customer, by_key: str | None) -> None:
    session.flush()
    session.add(CustomerVersion(customer_id=row.id, **version_of(row, by_key)))
    session.flush()


def customer_versions(session: Session, customer_id: str, after: int, limit: int) -> list[CustomerVersion]:
    """A page of how the customer was printed, in order, behind the version `after`."""
    mine = select(CustomerVersion).where(CustomerVersion.customer_id == customer_id, CustomerVersion.version > after)
    return list(session.exec(mine.order_by(col(CustomerVersion.version)).limit(limit)))


def add_aliases(session: Session, customer_id: str, wanted: Mapping[str, str]) -> list[CustomerAlias]:
    """Further names of a customer, by the fields in which they were given. Refused if any stands for another: nobody's
    usage may go to another, neither what arrives under their aliases, nor under their ids.
    """
    _lock_names(session)
    faults: list[Fault] = []
    for field, alias in wanted.items():
        holder = known_as(session, alias)
        if holder is not None and holder.id != customer_id:
            said = f"is the id of the customer {alias}" if holder.id == alias else f"belongs to {holder.id}"
            faults.append(Fault(field, said))
    if faults:
        remedy = "An alias belongs to one customer: leave it out here, or choose another."
        raise Refused("The alias is taken.", code="conflict", faults=faults, remedy=remedy)
    return [session.merge(CustomerAlias(alias=alias, customer_id=customer_id)) for alias in wanted.values()]


def _lock_names(session: Session) -> None:
    """Until the commit nobody else gives a customer a name: who has it already is known before it is given."""
    cursor(session).execute("select pg_advisory_xact_lock(hashtext('customer names'))")


def lock_roots(session: Session, root_ids: Sequence[str]) -> None:
    """Take the lock of those account trees, in order of id; all reading comes after this statement."""
    cursor(session).execute(
        "select id from account_root where id = any(%s) order by id for no key update", (list(root_ids),)
    )
