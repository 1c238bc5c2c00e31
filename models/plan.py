"""Plans and add-ons: versions that never change, and from which day each one is sold to new customers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column
from sqlmodel import Field, Session, SQLModel, col, select

from billing.errors import Fault, NotFound, Refused
from billing.plan import Plan
from models.database import cursor
from models.values import Whole, moment, read

AT_ONCE = date.min
"""Sold from the day that it is now, wherever that is latest and whichever clock is furthest behind."""


class PlanVersion(SQLModel, table=True):
    """A published version of a plan."""

    __tablename__ = "plan"
    plan_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    currency: str
    content: Plan = Field(sa_column=Column(Whole(Plan), nullable=False))
    published_at: datetime = moment()


class PlanSale(SQLModel, table=True):
    """A decision: a version is sold from a day on, or (None) not at all. The last one counts."""

    __tablename__ = "plan_sale"
    plan_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    no: int = Field(primary_key=True)
    sold_from: date | None
    cause: str
    decided_at: datetime = moment()


def plan(session: Session, plan_id: str, version: int | None = None, on: date | None = None) -> Plan:
    """That version; or the newest one that is sold on a day; or, without either, the newest one."""
    if version is not None:
        found = plan_versions(session, [(plan_id, version)])
        if not found:
            raise NotFound("plan", f"{plan_id} version {version}")
        return found[plan_id, version]
    newest = latest(session, plan_id)
    if newest is None:
        raise NotFound("plan", plan_id)
    if on is None:
        return newest
    sold = [v for v, since in _sales_of(session, plan_id).items() if since is not None and since <= on]
    if not sold:
        raise Refused(
            f"{plan_id!r} is not sold on {on}.",
            code="not_sold",
            faults=[Fault("plan", f"no version of it is sold on {on}")],
            remedy="Name a version, or publish the plan with a day from which it is sold.",
        )
    return newest if max(sold) == newest.version else plan(session, plan_id, max(sold))


def latest(session: Session, plan_id: str) -> Plan | None:
    row = cursor(session).execute(
        "select version, content from plan where plan_id = %s order by version desc limit 1", (plan_id,)
    )
    found = row.fetchone()
    return read(Plan, found[1]) if found else None


def plans(
    session: Session, after: tuple[str, int] = ("", 0), limit: int | None = None, kind: str | None = None
) -> list[Plan]:
    """Every version of every plan (of a kind, if named) in order of id and version, behind `after`."""
    rows = cursor(session).execute(
        'select content from plan where (plan_id collate "C", version) > (%s, %s)'
        " and (%s::text is null or coalesce(content ->> 'kind', 'plan') = %s)"
        ' order by plan_id collate "C", version limit %s',
        (*after, kind, kind, limit),
    )
    return [read(Plan, content) for (content,) in rows]


def newest_plans(session: Session) -> list[Plan]:
    """The newest version of every plan, in order of id."""
    rows = cursor(session).execute("select distinct on (plan_id) content from plan order by plan_id, version desc")
    return sorted((read(Plan, content) for (content,) in rows), key=lambda plan: plan.plan_id)


def sales(session: Session) -> dict[tuple[str, int], date | None]:
    """Of every version, the day from which it is sold; None if it is not."""
    rows = cursor(session).execute(
        "select distinct on (plan_id, version) plan_id, version, sold_from from plan_sale"
        " order by plan_id, version, no desc"
    )
    return {(plan_id, version): since for plan_id, version, since in rows}


def plan_sales(session: Session, plan_id: str) -> list[PlanSale]:
    """Every decision about the plan's versions, in order of version and time."""
    query = select(PlanSale).where(PlanSale.plan_id == plan_id)
    return list(session.exec(query.order_by(col(PlanSale.version), col(PlanSale.no))))


def sold_from(session: Session, plan_id: str, version: int) -> date | None:
    return _sales_of(session, plan_id).get(version)


def _sales_of(session: Session, plan_id: str) -> dict[int, date | None]:
    rows = cursor(session).execute(
        "select distinct on (version) version, sold_from from plan_sale where plan_id = %s order by version, no desc",
        (plan_id,),
    )
    return dict(rows.fetchall())


def add_version(session: Session, draft: Plan, at: datetime) -> tuple[Plan, bool]:
    """The plan as its next version, and whether it is a new one: the same content is the version that stands.

    The caller has checked it and holds the catalog's lock.
    """
    newest = latest(session, draft.plan_id)
    if newest and newest == draft.named(draft.plan_id, newest.version):
        return newest, False
    found = draft.named(draft.plan_id, newest.version + 1 if newest else 1)
    session.add(
        PlanVersion(
            plan_id=found.plan_id, version=found.version, currency=found.currency, content=found, published_at=at
        )
    )
    # Until the transaction is committed nobody may remember this version: it may yet become another one.
    session.info["published"] = True
    return found, True


def sell(
    session: Session, plan_id: str, version: int, since: date | None, at: datetime, cause: str = "published"
) -> bool:
    """From now on the version is sold from the day `since`, or (None) not at all; whether that is a change."""
    before = cursor(session).execute(
        "select no, sold_from from plan_sale where plan_id = %s and version = %s order by no desc limit 1",
        (plan_id, version),
    )
    no, standing = before.fetchone() or (0, None)
    if since == AT_ONCE:
        today = _earliest_day(session, at)
        since = standing if standing is not None and standing <= today else today
    if no and since == standing:
        return False
    session.add(PlanSale(plan_id=plan_id, version=version, no=no + 1, sold_from=since, cause=cause, decided_at=at))
    session.flush()
    return True


def _earliest_day(session: Session, at: datetime) -> date:
    """The day that it is where days begin last, on the wall clock or the test clock that is furthest behind."""
    row = cursor(session).execute("select least(%s, (select min(now_at) from test_clock))", (at,)).fetchone()
    moment_: datetime = row[0] if row else at
    return (moment_.astimezone(UTC) - timedelta(hours=12)).date()


# Versions never change, so a process reads each of them once. By the pool of connections, which is of one database.
_REMEMBERED: WeakKeyDictionary[Any, dict[tuple[str, int], Plan]] = WeakKeyDictionary()
MOST_REMEMBERED = 5_000


def plan_versions(session: Session, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Plan]:
    """Many versions, those that are not known yet in one read."""
    known = _REMEMBERED.setdefault(session.get_bind().engine.pool, {})
    found = {key: version for key in wanted if (version := known.get(key))}
    missing = sorted(set(wanted) - found.keys())
    fresh = _read_versions(session, missing) if missing else {}
    if fresh and "published" not in session.info:
        if len(known) + len(fresh) > MOST_REMEMBERED:
            known.clear()
        known.update(fresh)
    return found | fresh


def _read_versions(session: Session, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Plan]:
    rows = cursor(session).execute(
        "select plan_id, version, content from plan where (plan_id, version) in"
        " (select * from unnest(%s::text[], %s::int[]))",
        ([p for p, _ in wanted], [v for _, v in wanted]),
    )
    return {(plan_id, version): read(Plan, content) for plan_id, version, content in rows}
