"""Products, features, coupons and customers' overrides: kept in versions that never change; the newest one counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, TypeVar

from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Column
from sqlmodel import Field, Session, SQLModel

from billing.catalog import Feature, Override, Product
from billing.errors import NotFound, Refused
from billing.modifiers import Coupon, Redeemed
from models.database import cursor
from models.values import Whole, moment, read, whole

T = TypeVar("T")


class ProductVersion(SQLModel, table=True):
    """A product as it was from a moment on."""

    __tablename__ = "product"
    product_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    content: Product = Field(sa_column=Column(Whole(Product), nullable=False))
    published_at: datetime = moment()


class FeatureVersion(SQLModel, table=True):
    """A feature as it was from a moment on."""

    __tablename__ = "feature"
    feature_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    content: Feature = Field(sa_column=Column(Whole(Feature), nullable=False))
    published_at: datetime = moment()


class CouponVersion(SQLModel, table=True):
    """A coupon as it was from a moment on; who redeemed it has it as it was then."""

    __tablename__ = "coupon"
    coupon_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    content: Coupon = Field(sa_column=Column(Whole(Coupon), nullable=False))
    published_at: datetime = moment()


class OverrideVersion(SQLModel, table=True):
    """A customer's override as it was from a moment on; terms hold the one that they were sold with."""

    __tablename__ = "customer_override"
    override_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    customer_id: str = Field(foreign_key="customer.id")
    content: Override = Field(sa_column=Column(Whole(Override), nullable=False))
    published_at: datetime = moment()


class CouponRedemption(SQLModel, table=True):
    """A subscription has redeemed a coupon by its contract or an amendment, which is the `cause`; once and for all,
    unless the amendment is withdrawn before it takes effect.
    """

    __tablename__ = "coupon_redemption"
    coupon_id: str = Field(primary_key=True)
    subscription_id: str = Field(primary_key=True, foreign_key="subscription.id")
    redeemed_on: date
    cause: str = Field(primary_key=True)
    redeemed_at: datetime = moment()


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """One kind of entry: its word, its table and its key in there, and what is in it.

    `beside` are fields that have a column of their own, for queries.
    """

    word: str
    table: str
    key: str
    of: type[T]
    beside: tuple[str, ...] = ()

    def newest(self, session: Session, after: str = "", limit: int | None = None) -> list[T]:
        """All of them as they are now, in order of id, behind `after`."""
        found = cursor(session).execute(
            self._sql(
                'select content from (select distinct on ({key} collate "C") {key}, content from {table}'
                ' where {key} collate "C" > %s order by {key} collate "C", version desc) e limit %s'
            ),
            (after, limit),
        )
        return [read(self.of, content) for (content,) in found]

    def every(self, session: Session) -> list[tuple[int, T]]:
        """Every version that there ever was, with its number: terms that stand keep theirs."""
        found = cursor(session).execute(self._sql("select version, content from {table} order by {key}, version"))
        return [(version, read(self.of, content)) for version, content in found]

    def get(self, session: Session, key: str) -> T:
        found = self.find(session, key)
        if found is None:
            raise NotFound(self.word, key)
        return found

    def find(self, session: Session, key: str) -> T | None:
        found = self._stands(session, key)
        return found[1] if found else None

    def put(self, session: Session, value: T, at: datetime) -> int:
        """Make it the newest version, and say which one; 0 if it is so already. The caller has checked it and holds
        the catalog's lock.
        """
        key = str(getattr(value, self.key))
        standing = self._stands(session, key)
        if standing and standing[1] == value:
            return 0
        version = standing[0] + 1 if standing else 1
        columns = [self.key, *self.beside, "version", "content", "published_at"]
        beside = [getattr(value, name) for name in self.beside]
        cursor(session).execute(
            SQL("insert into {} ({}) values ({})").format(
                Identifier(self.table),
                SQL(", ").join(map(Identifier, columns)),
                SQL(", ").join([SQL("%s")] * len(columns)),
            ),
            (key, *beside, version, whole(value), at),
        )
        return version

    def _stands(self, session: Session, key: str) -> tuple[int, T] | None:
        row = cursor(session).execute(
            self._sql("select version, content from {table} where {key} = %s order by version desc limit 1"), (key,)
        )
        found = row.fetchone()
        return (found[0], read(self.of, found[1])) if found else None

    def _sql(self, text: str) -> Composed:
        return SQL(text).format(table=Identifier(self.table), key=Identifier(self.key))


PRODUCTS = Kept("product", "product", "product_id", Product)
FEATURES = Kept("feature", "feature", "feature_id", Feature)
COUPONS = Kept("coupon", "coupon", "coupon_id", Coupon)
OVERRIDES = Kept("override", "customer_override", "override_id", Override, ("customer_id",))


def overrides_of(session: Session, customer_ids: Sequence[str]) -> dict[str, list[Override]]:
    """The overrides of each of these customers, as they are now."""
    rows = cursor(session).execute(
        "select distinct on (override_id) customer_id, content from customer_override"
        " where override_id in (select override_id from customer_override where customer_id = any(%s))"
        " order by override_id, version desc",
        (list(customer_ids),),
    )
    found: dict[str, list[Override]] = {key: [] for key in customer_ids}
    for customer_id, content in rows:
        if customer_id in found:
            found[customer_id].append(read(Override, content))
    return found


def redeemed_count(session: Session, coupon_id: str) -> int:
    """By how many subscriptions."""
    return _redeemed(session, coupon_id)[0]


def _redeemed(session: Session, coupon_id: str, subscription_id: str = "") -> tuple[int, bool]:
    """By how many subscriptions, and whether by that one. What came with an amendment went with it."""
    asked = cursor(session).execute(
        "select count(*), coalesce(bool_or(subscription_id = %s), false) from coupon_redemption r where coupon_id = %s"
        " and not exists (select from amendment a where a.id = r.cause and a.withdrawn_at is not null)",
        (subscription_id, coupon_id),
    )
    many, by_it = asked.fetchall()[0]
    return many, by_it


def used_up(session: Session, coupon: Coupon, subscription_id: str) -> str:
    """Why this subscription cannot redeem it any more; empty if it can."""
    many, by_it = _redeemed(session, coupon.coupon_id, subscription_id)
    if by_it:
        return "has been redeemed by this subscription"
    if coupon.most is not None and many >= coupon.most:
        return f"has been redeemed {coupon.most} times, as often as it may be"
    return ""


def redeem(session: Session, subscription_id: str, coupons: Iterable[Redeemed], cause: str, at: datetime) -> None:
    """Write down who redeemed what. One at a time may count: the lock on each coupon lasts until the commit."""
    for redeemed in sorted(coupons, key=lambda one: one.coupon.coupon_id):
        coupon = redeemed.coupon
        cursor(session).execute("select pg_advisory_xact_lock(hashtext(%s))", (f"coupon/{coupon.coupon_id}",))
        if why := used_up(session, coupon, subscription_id):
            remedy = "Leave it out, or publish the coupon with a higher `most`."
            raise Refused(f"The coupon {coupon.coupon_id!r} {why}.", code="coupon_refused", remedy=remedy)
        cursor(session).execute(
            "insert into coupon_redemption (coupon_id, subscription_id, redeemed_on, cause, redeemed_at)"
            " values (%s, %s, %s, %s, %s)",
            (coupon.coupon_id, subscription_id, redeemed.on, cause, at),
        )
