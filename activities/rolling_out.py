"""Carrying out a roll-out: members made in sets, held ones moved or left as people answer, all of it taken back.

A move is an amendment like any other; on its day it takes effect with whatever else is due. Nobody is woken for one
that lies ahead: the clock, the billing run and the sweep find it on the agenda.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.lifecycle import Answer
from activities.settling import apply_amendment, settle, subject_of
from billing.amending import Change
from billing.errors import Refused
from billing.ids import derive
from billing.period import instant, local_day
from billing.rollout import move_day, to_be_moved
from billing.standing import Standing
from models import agenda, rollout, task
from models.amendment import Amendment
from models.customer import lock_roots
from models.database import transaction
from models.entity import entity, now_on
from models.movable import Movable, amendment_of, check_move, member, movable, words_of
from models.rollout import Rollout, RolloutMember, audience_of
from models.selling import change_of
from models.standing import standings

BATCH = 100
STAGE, TAKE_BACK, DECIDE = "stage", "take back", "decide"


@dataclass(frozen=True, slots=True)
class NextBatch:
    """Go on behind the account root `after`; '' is the beginning."""

    rollout_id: str
    after: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a roll-out stands: what is to be done next (nothing if empty), from where on, and members by state."""

    to_do: str
    after: str
    entity: str
    target: str
    planned: int = 0
    held: int = 0
    refused: int = 0
    skipped: int = 0
    moved: int = 0
    taken_back: int = 0


class Rollouts:
    """Database work of the `Rollout` workflow."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @activity.defn
    def look_at_rollout(self, rollout_id: str) -> Outlook:
        """What the agenda says has become due, and how many members are in which state."""
        with transaction(self.engine) as session:
            return _outlook(session, rollout.rollout(session, rollout_id))

    @activity.defn
    def stage(self, command: NextBatch) -> Outlook:
        """Make the members of the next account roots; those who need not wait for a later day are moved at once."""
        with transaction(self.engine) as session:
            row = rollout.rollout(session, command.rollout_id, locked=True)
            causes = [cause for cause in _due(session, row) if cause in rollout.stagings(row)]
            if causes and row.take_back_at is None and row.staged_through == command.after:
                _stage_next(session, row, causes)
            return _outlook(session, row)

    @activity.defn
    def decide(self, command: NextBatch) -> Outlook:
        """Move or leave the held members about whom a person has answered."""
        with transaction(self.engine) as session:
            row = rollout.rollout(session, command.rollout_id, locked=True)
            answers = rollout.answers(session, row, BATCH)
            if answers:
                _decide(session, row, answers)
            return _outlook(session, row)

    @activity.defn
    def take_back(self, command: NextBatch) -> Outlook:
        """Take back the members of the next account roots."""
        with transaction(self.engine) as session:
            row = rollout.rollout(session, command.rollout_id, locked=True)
            if row.take_back_at is not None and row.taken_back_at is None and row.take_back_through == command.after:
                _take_back_next(session, row)
            return _outlook(session, row)


def _outlook(session: Session, row: Rollout) -> Outlook:
    session.flush()
    due = _due(session, row)
    staging = any(cause in rollout.stagings(row) for cause in due)
    to_do = TAKE_BACK if TAKE_BACK in due else STAGE if staging else DECIDE if due else ""
    through = {TAKE_BACK: row.take_back_through, STAGE: row.staged_through}
    target = f"{row.to_plan_id} version {row.to_version}"
    return Outlook(to_do, through.get(to_do, ""), row.entity_id, target, **rollout.counts(session, row.id))


def _due(session: Session, row: Rollout) -> list[str]:
    """What is open for a roll-out, soonest first. What somebody asked for is due, whoever's clock is behind."""
    now = now_on(session, entity(session, row.entity_id).clock_id)
    ahead = {cause for cause, at in rollout.stagings(row).items() if now < at and at != row.made_at}
    return [cause for cause in agenda.open_causes(session, row.subject) if cause not in ahead]


def _settled(session: Session, row: Rollout, root_ids: Sequence[str]) -> datetime:
    """Take the roots' lock and let take effect what is due; returns the time on the entity's clock."""
    lock_roots(session, root_ids)
    clock_id = entity(session, row.entity_id).clock_id
    now = now_on(session, clock_id)
    settle(session, root_ids, now, clock_id)
    return now


# Staging.


def _stage_next(session: Session, row: Rollout, causes: Sequence[str]) -> None:
    """The next batch of a round through the account roots, for the first of the causes; one that begins does for all
    that have become due.
    """
    root_ids = rollout.roots_concerned(session, row, row.staged_through, BATCH)
    now = _settled(session, row, root_ids)
    if not row.staged_through:
        for cause in causes[1:]:
            agenda.done(session, row.subject, cause, now)
    found = movable(session, row, root_ids, now)
    chosen = [one for one in found if one.judged and one.judged.outcome == "planned"]
    _ask_for(session, row, chosen, now)
    rollout.add_members(session, [member(row, one, now) for one in found])
    _move_or_plan(session, row, [(one.standing, one.change) for one in chosen if one.change], now)
    for one in found:
        if one.judged and one.judged.outcome == "held":
            _hold(session, row, one, now)
    row.staged_through = root_ids[-1] if root_ids else row.staged_through
    if len(root_ids) < BATCH:
        row.staged_at, row.staged_through = row.staged_at or now, ""
        agenda.done(session, row.subject, causes[0], now)


def _ask_for(session: Session, row: Rollout, chosen: Sequence[Movable], now: datetime) -> None:
    session.add_all(_to(row, one.standing, one.change.effective_on, now) for one in chosen if one.change)
    session.flush()


def _to(row: Rollout, one: Standing, day: date, now: datetime) -> Amendment:
    """The amendment that moves a subscription."""
    name = amendment_of(row.id, one.subscription_id)
    return _amendment(row, name, one, day, (row.to_plan_id, row.to_version), now)


def _amendment(row: Rollout, name: str, one: Standing, day: date, to: tuple[str, int], now: datetime) -> Amendment:
    """A change of the plan alone, to be stored. It is answered: nobody else has to carry it out."""
    later = day > local_day(now, one.zone)
    answer = Answer(True, effective_on=day.isoformat(), scheduled=later, currency=one.currency)
    return Amendment(
        id=name,
        subscription_id=one.subscription_id,
        effective_on=day,
        plan_id=to[0],
        plan_version=to[1],
        requested_by=row.subject,
        requested_at=now,
        answer=asdict(answer),
    )


def _move_or_plan(session: Session, row: Rollout, chosen: Sequence[tuple[Standing, Change]], now: datetime) -> None:
    """What lies ahead goes on the agenda, in one statement; what begins today is carried out."""
    ahead = [
        (subject_of(one.subscription_id), change.amendment_id, instant(change.effective_on, one.zone))
        for one, change in chosen
        if change.effective_on > local_day(now, one.zone)
    ]
    clock_id = entity(session, row.entity_id).clock_id
    agenda.plan_many(session, "amendment", ahead, row.entity_id, clock_id)
    for one, change in chosen:
        if change.effective_on <= local_day(now, one.zone):
            apply_amendment(session, session.get_one(Amendment, change.amendment_id), now)


def _hold(session: Session, row: Rollout, one: Movable, now: datetime) -> None:
    name = one.standing.subscription_id
    refusal = Refused(
        f"Roll-out {row.id} would move {name} to {row.to_plan_id} version {row.to_version}: {one.why}.",
        remedy="Answer `move` or `leave`, and why.",
    )
    task.open_task(session, "rollout", rollout.task_subject(row.id, name), row.entity_id, refusal, now)


# Deciding on those who are held.


def _decide(session: Session, row: Rollout, answers: Sequence[rollout.Answered]) -> None:
    now = _settled(session, row, sorted({answer.root_id for answer in answers}))
    found = {
        one.subscription_id: one for one in standings(session, sorted({a.root_id for a in answers}), row.entity_id)
    }
    held = {one.subscription_id: one for one in rollout.members_of(session, row.id, [a.root_id for a in answers])}
    for answer in answers:
        mine, one = held[answer.subscription_id], found[answer.subscription_id]
        if mine.state == "held" and to_be_moved(answer.answer):
            day = move_day(audience_of(row), row.on_day, one, local_day(now, one.zone))
            asked = _to(row, one, day, now)
            _move_held(session, row, mine, one, asked)
        elif mine.state == "held":
            mine.refused_at, mine.why = now, f"{mine.why}; left by {answer.by}: {answer.answer}"
    session.flush()
    for answer in answers:
        agenda.done(session, row.subject, answer.task_id, now)


def _move_held(session: Session, row: Rollout, mine: RolloutMember, one: Standing, asked: Amendment) -> None:
    now = asked.requested_at
    try:
        _refuse_other_plan(row, one)
        change = change_of(session, asked, one.terms)
        check_move(session, one, change, now)
    except Refused as refusal:
        mine.skipped_at, mine.why = now, words_of(refusal)
        return
    session.add(asked)
    session.flush()
    mine.planned_at, mine.amendment_id, mine.move_on = now, change.amendment_id, change.effective_on
    session.flush()
    _move_or_plan(session, row, [(one, change)], now)


def _refuse_other_plan(row: Rollout, one: Standing) -> None:
    if one.terms.plan.plan_id != row.plan_id:
        raise Refused(f"The subscription is on {one.terms.plan.plan_id!r} by now.")


# Taking back.


def _take_back_next(session: Session, row: Rollout) -> None:
    root_ids = rollout.roots_to_take_back(session, row.id, row.take_back_through, BATCH)
    now = _settled(session, row, root_ids)
    standing_now = {one.subscription_id: one for one in standings(session, root_ids, row.entity_id)}
    mine = rollout.members_of(session, row.id, root_ids)
    planned = [one for one in mine if one.state == "planned"]
    agenda.drop_many(session, [(subject_of(m.subscription_id), m.amendment_id or "") for m in planned], now)
    for one in planned:
        one.taken_back_at, one.why = now, f"taken back before {one.move_on}; {one.why}"
    for one in mine:
        if one.state == "held":
            one.taken_back_at, one.why = now, f"taken back before anybody decided; {one.why}"
            task.close_tasks(session, rollout.task_subject(row.id, one.subscription_id), now, "taken back")
        elif one.state == "moved":
            _move_back(session, row, one, standing_now[one.subscription_id], now)
    session.flush()
    row.take_back_through = root_ids[-1] if root_ids else row.take_back_through
    if len(root_ids) < BATCH:
        row.taken_back_at = now
        agenda.done(session, row.subject, TAKE_BACK, now)


def _move_back(session: Session, row: Rollout, mine: RolloutMember, one: Standing, now: datetime) -> None:
    """Back to the version before the move, from today; whoever was changed since, or has ended, is left alone."""
    sold = (one.terms.plan.plan_id, one.terms.plan.version)
    back = derive("amd", "rollout", row.id, one.subscription_id, TAKE_BACK)
    asked = _amendment(row, back, one, local_day(now, one.zone), (mine.from_plan_id, mine.from_version), now)
    try:
        if one.state == "ended":
            raise Refused("the subscription has ended")
        if sold != (row.to_plan_id, row.to_version):
            raise Refused(f"it is on {sold[0]} version {sold[1]} by now")
        check_move(session, one, change_of(session, asked, one.terms), now)
    except Refused as refusal:
        mine.why = f"left alone when the roll-out was taken back: {words_of(refusal)}"
        return
    session.add(asked)
    session.flush()
    apply_amendment(session, asked, now)
    mine.taken_back_at, mine.back_amendment_id = now, asked.id
    mine.why = f"moved back to {mine.from_plan_id} version {mine.from_version}; {mine.why}"
