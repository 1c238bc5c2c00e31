"""A roll-out is made, and asked to be taken back: what is checked, the first rows, and which version is sold.

Members are made and taken back afterwards, in sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from sqlmodel import Session

from billing.errors import Fault, NotFound, Refused
from billing.plan import Plan
from billing.rollout import in_share, unfit
from models import agenda, task
from models.catalog import decide_sale, plan
from models.database import cursor
from models.entity import entity
from models.rollout import (
    Rollout,
    customers_concerned,
    intervals_concerned,
    open_rollout,
    rollout,
    stagings,
    unknown_names,
)

_REQUEST = (
    "entity_id plan_id to_plan_id to_version audience on_day subscriptions customers share_percent notice_days"
    " guard_percent guard_action"
).split()


def launch(session: Session, row: Rollout, today: date) -> Rollout:
    """Store a roll-out and put it on the agenda; the same one again is the one that stands."""
    # One at a time is made, so that the same one sent twice at once finds itself, and another one finds it open.
    cursor(session).execute("select pg_advisory_xact_lock(hashtext('rollout'))")
    standing = session.get(Rollout, row.id)
    if standing is not None:
        _refuse_another(standing, row)
        return standing
    check(session, row, today)
    session.add(row)
    session.flush()
    clock_id = entity(session, row.entity_id).clock_id
    due = [(row.subject, cause, at) for cause, at in stagings(row).items()]
    agenda.plan_many(session, "rollout", due, row.entity_id, clock_id)
    if row.audience != "cohort" and row.plan_id == row.to_plan_id:
        _sell(session, row)
    return row


def _refuse_another(standing: Rollout, row: Rollout) -> None:
    if other := [name for name in _REQUEST if getattr(standing, name) != getattr(row, name)]:
        said = "belongs to a roll-out with another " + ", ".join(other)
        raise Refused("This id is taken.", code="conflict", faults=[Fault("id", said)], remedy="Choose a new id.")


def check(session: Session, row: Rollout, today: date) -> None:
    """Refused if the roll-out cannot be made as asked: each fault with its field."""
    target = _target(session, row)
    faults = [*_faults_of_the_day(row, today), *_faults_of_the_audience(row)]
    if isinstance(target, Fault):
        faults.append(target)
    elif not faults:
        faults += _faults_of_the_target(session, row, target)
    if faults:
        remedy = "Correct these fields and send it again; nothing was stored."
        raise Refused("The roll-out cannot be made as asked.", code="invalid_rollout", faults=faults, remedy=remedy)
    if other := open_rollout(session, row.entity_id, row.plan_id):
        raise Refused(
            f"The roll-out {other!r} of {row.plan_id!r} is still open.",
            code="conflict",
            faults=[Fault("plan", f"is being rolled out by {other!r}")],
            remedy="Wait until all its members are moved and decided on, or take it back.",
        )


def _target(session: Session, row: Rollout) -> Plan | Fault:
    try:
        plan(session, row.plan_id)
    except NotFound:
        return Fault("plan", f"there is no plan {row.plan_id!r}")
    try:
        return plan(session, row.to_plan_id, row.to_version)
    except NotFound:
        return Fault("version", f"there is no version {row.to_version} of {row.to_plan_id!r}")


def _faults_of_the_day(row: Rollout, today: date) -> Iterator[Fault]:
    earliest = today + timedelta(days=row.notice_days)
    if row.on_day < earliest:
        notice = f"with {row.notice_days} days' notice, " if row.notice_days else ""
        yield Fault("on", f"must not be before {earliest}: {notice}today is {today}")


def _faults_of_the_audience(row: Rollout) -> Iterator[Fault]:
    named = bool(row.subscriptions or row.customers)
    if row.audience != "cohort":
        if named or row.share_percent is not None:
            yield Fault("cohort", f"is for the audience `cohort`; this is for `{row.audience}`")
    elif named and row.share_percent is not None:
        yield Fault("cohort", "has names or a share, not both")
    elif not named and row.share_percent is None:
        yield Fault("cohort", "is empty: name subscriptions or customers, or give a share in percent")
    if row.audience == "new" and row.guard_percent is not None:
        yield Fault("guard", "has nothing to guard: nobody is moved")
    if row.audience == "new" and row.plan_id != row.to_plan_id:
        yield Fault("to_plan", "must be left out: another plan is sold under its own name")


def _faults_of_the_target(session: Session, row: Rollout, target: Plan) -> Iterator[Fault]:
    if target.kind != "plan":
        yield Fault("to_plan" if row.to_plan_id != row.plan_id else "plan", "is an add-on")
    if row.audience == "new" and (newer := _newer_sold(session, row)):
        yield Fault("version", f"would not be sold: version {newer} is, on {row.on_day}")
    unknown = unknown_names(session, row)
    yield from unknown
    yield from unfit(target, intervals_concerned(session, row))
    if row.share_percent is not None and not any(
        in_share(name, row.share_percent) for name in customers_concerned(session, row)
    ):
        yield Fault("cohort", f"is empty: {row.share_percent:f}% of the customers are nobody")


# Selling: decisions in plan_sale, of which the last one counts.


def _newer_sold(session: Session, row: Rollout) -> int | None:
    """A newer version that is sold on the roll-out's day."""
    try:
        sold = plan(session, row.plan_id, on=row.on_day).version
    except Refused:
        return None
    return sold if sold > row.to_version else None


def _sell(session: Session, row: Rollout) -> None:
    """From the roll-out's day on the version is sold; one that is sold by then stays so."""
    decided = _decisions(session, row)
    if not decided or decided[0][1] is None or decided[0][1] > row.on_day:
        decide_sale(session, row.to_plan_id, row.to_version, row.on_day, row.made_at, row.subject)


def _decisions(session: Session, row: Rollout) -> list[tuple[str, date | None]]:
    """The last two decisions about selling the version: cause and day, newest first."""
    found = cursor(session).execute(
        "select cause, sold_from from plan_sale where plan_id = %s and version = %s order by no desc limit 2",
        (row.to_plan_id, row.to_version),
    )
    return found.fetchall()


def ask_back(session: Session, rollout_id: str, key: str, now: datetime) -> Rollout:
    """Have a roll-out taken back: no further members, and the version sold before is sold again. Once."""
    row = rollout(session, rollout_id, locked=True)
    if row.take_back_at is not None:
        return row
    row.take_back_at, row.take_back_with = now, key
    clock_id = entity(session, row.entity_id).clock_id
    task.close_tasks(session, row.subject, now, "taken back")
    agenda.drop(session, row.subject, "rollout", now)
    agenda.plan_ahead(session, row.subject, "rollout", "take back", now, row.entity_id, clock_id)
    decided = _decisions(session, row)
    if decided and decided[0][0] == row.subject:
        before = decided[1][1] if len(decided) > 1 else None
        decide_sale(session, row.to_plan_id, row.to_version, before, now, f"{row.subject} taken back")
    return row
