"""Legal entities, the clocks they live on, and their number series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import NotFound
from billing.period import local_day, zone
from models.party import PartyVersion, change, version_of
from models.values import large, moment


class TestClock(SQLModel, table=True):
    """A clock that only moves when told to; whoever lives on it waits for it. `target_at` is where it is heading."""

    __tablename__ = "test_clock"
    __test__ = False
    id: str = Field(primary_key=True)
    now_at: datetime = moment()
    target_at: datetime = moment()


class LegalEntity(SQLModel, table=True):
    """Who issues invoices and keeps books, on the wall clock or on one test clock. What documents print of it is also
    kept by `version`.
    """

    __tablename__ = "legal_entity"
    id: str = Field(primary_key=True)
    name: str
    country: str
    functional_currency: str
    time_zone: str
    address: str
    email: str
    vat_id: str | None = None
    clock_id: str | None = Field(default=None, foreign_key="test_clock.id")
    payment_terms_days: int = 14
    close_after_days: int = 4
    version: int = 1


class EntityVersion(PartyVersion, table=True):
    """A legal entity as it is printed on what it issues from `since` on, up to the next version."""

    __tablename__ = "legal_entity_version"
    entity_id: str = Field(primary_key=True, foreign_key="legal_entity.id")
    version: int = Field(primary_key=True)


class InvoiceSeries(SQLModel, table=True):
    """A gapless run of document numbers: `prefix` and the next number."""

    __tablename__ = "invoice_series"
    entity_id: str = Field(primary_key=True, foreign_key="legal_entity.id")
    kind: str = Field(primary_key=True)
    prefix: str
    next_number: int = large(default=1)


def entity(session: Session, entity_id: str) -> LegalEntity:
    found = session.get(LegalEntity, entity_id)
    if found is None:
        raise NotFound("legal entity", entity_id)
    return found


def add_entity(session: Session, row: LegalEntity, *, by_key: str | None = None) -> None:
    session.add(row)
    _keep_version(session, row, by_key)


def change_entity(
    session: Session, entity_id: str, wanted: Mapping[str, object], *, by_key: str | None = None
) -> LegalEntity:
    """The entity with other facts, for all that it issues and agrees from now on."""
    row = session.get(LegalEntity, entity_id, with_for_update={"key_share": True})
    if row is None:
        raise NotFound("legal entity", entity_id)
    before = row.version
    change(row, wanted)
    if row.version > before:
        _keep_version(session, row, by_key)
    return row


def _keep_version(session: Session, row: LegalEntity, by_key: str | None) -> None:
    session.flush()
    session.add(EntityVersion(entity_id=row.id, **version_of(row, by_key)))
    session.flush()


def entity_versions(session: Session, entity_id: str, after: int, limit: int) -> list[EntityVersion]:
    """A page of how the entity was printed, in order, behind the version `after`."""
    mine = select(EntityVersion).where(EntityVersion.entity_id == entity_id, EntityVersion.version > after)
    return list(session.exec(mine.order_by(col(EntityVersion.version)).limit(limit)))


def entities(session: Session) -> list[LegalEntity]:
    return list(session.exec(select(LegalEntity).order_by(col(LegalEntity.id))))


def clocks(session: Session, after: str, limit: int) -> list[TestClock]:
    """A page of test clocks in order of id, behind `after`."""
    query = select(TestClock).where(TestClock.id > after).order_by(col(TestClock.id))
    return list(session.exec(query.limit(limit)))


def now_on(session: Session, clock_id: str | None) -> datetime:
    """What time it is for whoever lives on that clock; the wall clock for None."""
    if clock_id is None:
        return datetime.now(UTC)
    clock = session.get(TestClock, clock_id)
    if clock is None:
        raise NotFound("test clock", clock_id)
    session.refresh(clock)
    return clock.now_at


def today(session: Session, of: LegalEntity) -> date:
    """The entity's own day now."""
    return local_day(now_on(session, of.clock_id), zone(of.time_zone))


def series_owner(session: Session, prefixes: Sequence[str]) -> str | None:
    """The entity that numbers documents with one of these prefixes already."""
    row = session.exec(select(InvoiceSeries).where(col(InvoiceSeries.prefix).in_(prefixes))).first()
    return row.entity_id if row else None
