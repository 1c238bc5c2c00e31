"""Rebuilds: days of a meter counted anew for all customers, by the meter as it is or as it shall be; what is asked.

How they are carried out is in models/rebuilding.py. A rebuild is open until all of it is settled: applied, and what
held before taken away, or dropped, and nothing left of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel, col, select

from billing.catalog import Meter
from billing.errors import Fault, NotFound, Refused
from billing.meter_check import counting_faults
from billing.period import emptiness
from billing.plan_check import MeterShape, items_faults, plan_faults
from models import catalog
from models.database import cursor
from models.entry import OVERRIDES
from models.event import hold_months
from models.meter_version import meter, spans, versions
from models.plan import plan_versions
from models.values import large, moment, to_json

ToDo = Literal["open", "count", "compare", "apply", "drop", "clear", ""]


class MeterRebuild(SQLModel, table=True):
    """Counts the local days from `since` up to before `until` anew, into `series`; with `changes`, by a new version.

    Its moments say how far it is: opened (what comes is added to it), counted, compared; then applied, and what held
    before is taken away, or dropped; and settled.
    """

    __tablename__ = "meter_rebuild"
    id: str = Field(primary_key=True)
    meter_id: str = Field(foreign_key="meter.id")
    series: str
    changes: bool
    content: Any = Field(sa_column=Column(JSONB, nullable=False))
    since: date
    until: date
    asked_at: datetime = moment()
    asked_with: str
    opened_at: datetime | None = moment(default=None)
    seen: str | None = None
    events: int = large(default=0)
    counted: int = large(default=0)
    through_customer: str = ""
    through_day: date = date.min
    counted_at: datetime | None = moment(default=None)
    customers: int = large(default=0)
    compared: int = large(default=0)
    compared_through: str = ""
    compared_at: datetime | None = moment(default=None)
    apply_at: datetime | None = moment(default=None)
    apply_with: str | None = None
    applied_at: datetime | None = moment(default=None)
    batch: int | None = large(default=None)
    drop_at: datetime | None = moment(default=None)
    drop_with: str | None = None
    dropped_at: datetime | None = moment(default=None)
    cleared_through: str = ""
    settled_at: datetime | None = moment(default=None)

    @property
    def to_do(self) -> ToDo:
        """What comes next; nothing where a person has to decide, or all is done."""
        if self.settled_at:
            return ""
        if self.applied_at or self.dropped_at:
            return "clear"
        if self.drop_at:
            return "drop"
        if self.apply_at:
            return "apply"
        return "open" if not self.opened_at else "count" if not self.counted_at else self._last

    @property
    def _last(self) -> ToDo:
        return "" if self.compared_at else "compare"

    @property
    def subject(self) -> str:
        return f"rebuild/{self.meter_id}"


class MeterDifference(SQLModel, table=True):
    """A day whose quantity a rebuild changes: what it was when they were compared, and what the rebuild makes of it."""

    __tablename__ = "meter_difference"
    rebuild_id: str = Field(primary_key=True, foreign_key="meter_rebuild.id")
    customer_id: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    before: Decimal
    after: Decimal


class MeterWorth(SQLModel, table=True):
    """What that is worth to a customer in one currency, net, in minor units; or why nobody can say (`refused`)."""

    __tablename__ = "meter_worth"
    rebuild_id: str = Field(primary_key=True, foreign_key="meter_rebuild.id")
    customer_id: str = Field(primary_key=True)
    currency: str = Field(primary_key=True)
    late_minor: int = large()
    open_minor: int = large()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A rebuild as somebody asks for it. `change` is what the meter shall have otherwise, by field; without it, the
    meter counts the days anew as it is. `until` None is without end.
    """

    id: str
    meter_id: str
    since: date
    until: date | None
    change: Mapping[str, object]
    by_key: str


def ask(session: Session, asked: Asked, at: datetime) -> MeterRebuild:
    """Write down what is to be done; the same again is the one that stands. Refused with every fault."""
    # A month that is just being taken away is taken away first, and then its days cannot be asked for.
    hold_months(session)
    catalog.lock(session)
    mine, before = _as_asked(session, asked)
    standing = session.get(MeterRebuild, asked.id)
    if standing is not None:
        _refuse_another(standing, asked, mine)
        return standing
    _refuse_open(session, asked.meter_id)
    if faults := list(_faults(session, asked, mine, before)):
        raise Refused(
            f"The meter {asked.meter_id!r} cannot be counted anew so.",
            code="invalid_rebuild",
            faults=faults,
            remedy="Mend the named fields and send it again; nothing was stored.",
        )
    no = len(session.exec(select(MeterRebuild.id).where(MeterRebuild.meter_id == asked.meter_id)).all()) + 1
    row = MeterRebuild(
        id=asked.id,
        meter_id=asked.meter_id,
        series=f"{asked.meter_id}@{no}",
        changes=bool(asked.change),
        content=content_of(mine),
        since=asked.since,
        until=asked.until or date.max,
        asked_at=at,
        asked_with=asked.by_key,
    )
    session.add(row)
    session.flush()
    return row


def content_of(mine: Meter) -> dict[str, Any]:
    """As versions are kept: by the columns of the meter's table."""
    found: dict[str, Any] = to_json(mine)
    return {name: value for name, value in found.items() if name not in ("meter_id", "name", "late")}


def _as_asked(session: Session, asked: Asked) -> tuple[Meter, Meter]:
    """How the rebuild counts, and how the newest version does."""
    newest = meter(session, asked.meter_id)
    if asked.change:
        return replace(newest, **asked.change), newest  # type: ignore[arg-type]
    by_version = {row.version: mine for row, mine in versions(session, asked.meter_id)}
    return by_version[_versions_of(session, asked)[0]], newest


def _versions_of(session: Session, asked: Asked) -> list[int]:
    """The versions that hold in the days asked for."""
    until = asked.until or date.max
    held = [span for span in spans(session, asked.meter_id) if span.since < until and asked.since < span.until]
    return sorted({span.version for span in held}) or [1]


def _faults(session: Session, asked: Asked, mine: Meter, newest: Meter) -> Iterator[Fault]:
    if asked.until is not None and (fault := emptiness(asked.since, asked.until)):
        yield fault
    if asked.change:
        if asked.until is not None:
            yield Fault("until", "must be left out: a changed meter counts all days from `since` on")
        if mine == newest:
            yield Fault("change", "changes nothing; leave it out to count the days anew as they are counted")
        if mine.event_type != newest.event_type:
            yield Fault("change.event_type", "a meter's event type never changes: make another meter")
        if asked.since > _FIRST_DAY and (mine.course("UTC") or newest.course("UTC")):
            yield Fault("since", f"must be {_FIRST_DAY}: what goes on from day to day is counted in one way")
        yield from (Fault(f"change.{fault.field}", fault.reason) for fault in counting_faults(mine))
        yield from (Fault("change", reason) for reason in misfits(session, mine))
    elif len(_versions_of(session, asked)) > 1:
        days = ", ".join(str(span.since) for span in spans(session, asked.meter_id)[1:])
        yield Fault("until", f"must lie so that the days are counted by one version; other ones begin on {days}")
    yield from _taken(session, asked)


_FIRST_DAY = date(1970, 1, 1)


def _taken(session: Session, asked: Asked) -> Iterator[Fault]:
    row = (
        cursor(session)
        .execute(
            "select min(month) from usage_taken where month >= date_trunc('month', %s::date) and month <= %s",
            (asked.since - timedelta(days=1), (asked.until or date.max - timedelta(days=1)) + timedelta(days=1)),
        )
        .fetchone()
    )
    if row and row[0]:
        yield Fault("since", f"must lie later: events of {row[0]:%Y-%m} were taken away and cannot be counted anew")


def misfits(session: Session, mine: Meter) -> list[str]:
    """What plans and overrides ask of the meter as it stands and would not get any more."""
    now = catalog.known(session)
    then = replace(now, meters={**now.meters, mine.meter_id: MeterShape(frozenset(mine.dimensions), mine.per_event)})
    rows = cursor(session).execute("select plan_id, version from plan order by 1, 2").fetchall()
    found: list[str] = []
    for (name, version), plan in plan_versions(session, rows).items():
        lost = set(plan_faults(plan, then)) - set(plan_faults(plan, now))
        found += [f"version {version} of {name!r} would not fit: {f.field} {f.reason}" for f in sorted(lost, key=str)]
    for version, one in OVERRIDES.every(session):
        lost = set(items_faults(one.items, then)) - set(items_faults(one.items, now))
        which = f"version {version} of {one.override_id!r}"
        found += [f"{which} would not fit: {f.field} {f.reason}" for f in sorted(lost, key=str)]
    return found


def _refuse_another(standing: MeterRebuild, asked: Asked, mine: Meter) -> None:
    """While it is open the meter is as it was asked of; later, only what the change says can be compared."""
    had = (standing.meter_id, standing.since, standing.until, standing.changes)
    same = had == (asked.meter_id, asked.since, asked.until or date.max, bool(asked.change))
    wanted = content_of(mine)
    names = asked.change if standing.applied_at or standing.dropped_at else wanted if asked.change else ()
    if not same or any(standing.content.get(name) != wanted[name] for name in names):
        fault = Fault("id", "belongs to a rebuild of another meter, of other days, or with another change")
        raise Refused("This id is taken.", code="conflict", faults=[fault], remedy="Choose a new id.")


def _refuse_open(session: Session, meter_id: str) -> None:
    standing = open_of(session, meter_id)
    if standing is not None:
        raise Refused(
            f"The meter {meter_id!r} is being counted anew by {standing.id!r}.",
            code="conflict",
            remedy="Apply or drop that first, and wait until it is settled.",
        )


def rebuild(session: Session, meter_id: str, rebuild_id: str, *, locked: bool = False) -> MeterRebuild:
    """The rebuild of that meter; `locked`, nobody else changes it until the transaction ends."""
    found = session.get(MeterRebuild, rebuild_id, with_for_update=locked, populate_existing=locked)
    if found is None or found.meter_id != meter_id:
        raise NotFound("rebuild", rebuild_id)
    return found


def open_of(session: Session, meter_id: str, *, locked: bool = False) -> MeterRebuild | None:
    """The rebuild of a meter that is not settled; likewise."""
    query = select(MeterRebuild).where(MeterRebuild.meter_id == meter_id, col(MeterRebuild.settled_at).is_(None))
    query = query.with_for_update() if locked else query
    return session.exec(query.execution_options(populate_existing=True)).first()


def rebuilds(session: Session, meter_id: str, after: str, limit: int) -> list[MeterRebuild]:
    """A page of a meter's rebuilds in order of id, behind `after`."""
    query = select(MeterRebuild).where(MeterRebuild.meter_id == meter_id, col(MeterRebuild.id) > after)
    return list(session.exec(query.order_by(col(MeterRebuild.id)).limit(limit)))


def subjects(session: Session, *, to_do_only: bool) -> list[str]:
    """The workflows of all rebuilds that are not settled; or of those that do not wait for a person."""
    found = session.exec(select(MeterRebuild).where(col(MeterRebuild.settled_at).is_(None)))
    return sorted(row.subject for row in found if row.to_do or not to_do_only)


def decide(session: Session, row: MeterRebuild, *, apply: bool, key: str, at: datetime) -> MeterRebuild:
    """A person has looked: apply it, or drop it. The same again changes nothing. What is applied cannot be dropped, nor
    the other way round; what was to be applied and could not be can.
    """
    if row.drop_at if apply else row.applied_at:
        done = "dropped" if apply else "applied"
        raise Refused(f"{row.id!r} is {done} already.", code="conflict", remedy="Ask for another rebuild.")
    if apply and not row.compared_at:
        raise Refused(
            f"{row.id!r} is not compared yet.",
            code="not_compared",
            remedy="Wait until it is, look at the differences, and apply it then.",
        )
    if apply and row.apply_at is None:
        row.apply_at, row.apply_with = at, key
    elif not apply and row.drop_at is None:
        row.drop_at, row.drop_with = at, key
    session.add(row)
    session.flush()
    return row


@dataclass(frozen=True, slots=True)
class Differing:
    """A customer whose totals a rebuild changes."""

    customer_id: str
    days: tuple[MeterDifference, ...]
    worth: tuple[MeterWorth, ...]


_CONCERNED = """
  select customer_id from meter_difference where rebuild_id = %(rebuild)s
  union select customer_id from meter_worth where rebuild_id = %(rebuild)s
"""


def differing(session: Session, rebuild_id: str, after: str, limit: int) -> list[Differing]:
    """A page of them in order of customer, behind `after`."""
    rows = cursor(session).execute(
        f"select distinct customer_id from ({_CONCERNED}) c where customer_id > %(after)s order by 1 limit %(limit)s",
        {"rebuild": rebuild_id, "after": after, "limit": limit},
    )
    names = [name for (name,) in rows]
    days: dict[str, list[MeterDifference]] = {name: [] for name in names}
    worth: dict[str, list[MeterWorth]] = {name: [] for name in names}
    for one in session.exec(
        select(MeterDifference)
        .where(MeterDifference.rebuild_id == rebuild_id, col(MeterDifference.customer_id).in_(names))
        .order_by(col(MeterDifference.day))
    ):
        days[one.customer_id].append(one)
    for other in session.exec(
        select(MeterWorth)
        .where(MeterWorth.rebuild_id == rebuild_id, col(MeterWorth.customer_id).in_(names))
        .order_by(col(MeterWorth.currency))
    ):
        worth[other.customer_id].append(other)
    return [Differing(name, tuple(days[name]), tuple(worth[name])) for name in names]


@dataclass(frozen=True, slots=True)
class Sums:
    """What a rebuild changes in all: customers, days, and money by currency, net, in minor units."""

    customers: int
    days: int
    late: Mapping[str, int]
    open: Mapping[str, int]
    refused: int


def sums(session: Session, rebuild_id: str) -> Sums:
    cur = cursor(session)
    row = cur.execute(
        f"select (select count(*) from ({_CONCERNED}) c),"
        " (select count(*) from meter_difference where rebuild_id = %(rebuild)s)",
        {"rebuild": rebuild_id},
    ).fetchone()
    assert row is not None
    money: Sequence[tuple[str, int, int, int]] = cur.execute(
        "select currency, sum(late_minor)::bigint, sum(open_minor)::bigint, count(refused) from meter_worth"
        " where rebuild_id = %s group by 1 order by 1",
        (rebuild_id,),
    ).fetchall()
    late, unbilled = {one[0]: one[1] for one in money}, {one[0]: one[2] for one in money}
    return Sums(row[0], row[1], late, unbilled, sum(one[3] for one in money))
