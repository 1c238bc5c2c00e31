"""A subscription's lifecycle: looking what is due, amending and cancelling. All under the root's lock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session
from temporalio import activity

from activities.settling import apply_amendment, realign_lanes, settle, standing_of, subject_of, tell_crm
from billing.amending import preview
from billing.errors import Refused
from billing.period import instant, local_day
from models import agenda, rollout, task
from models.amendment import Amendment, Cancellation, open_cancellation
from models.customer import customer, lock_roots
from models.database import cursor, transaction
from models.entity import entity, now_on
from models.entry import redeem
from models.selling import change_of
from models.signing import refuse_double_metering
from models.subscription import Subscription, move, subscription
from models.values import read


@dataclass(frozen=True, slots=True)
class Standstill:
    """How a subscription stands after a look: what the Temporal UI shows, and when to look again."""

    state: str
    next_due: datetime | None
    now: datetime
    on_clock: bool
    bill_now: bool
    customer: str
    entity: str
    plan: str
    seats: str
    billed_through: str
    ends_on: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller is told. A refusal is an answer: `accepted` is false and `reason` and `remedy` say more."""

    accepted: bool
    reason: str = ""
    remedy: str = ""
    code: str = ""
    effective_on: str = ""
    scheduled: bool = False
    net_minor: int = 0
    currency: str = ""
    faults: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        """The reason with its faults, for a person."""
        return " ".join([self.reason, *(f"{field}: {reason}" for field, reason in self.faults)])


@dataclass(frozen=True, slots=True)
class ParkedStep:
    """A refused step of a workflow, for the list of people's tasks.

    Without a legal entity it is the one for which something was last planned for the subject, if there is one.
    """

    subject: str
    entity_id: str | None
    reason: str
    remedy: str


class Lifecycle:
    """Database work of the `Subscription` workflow."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @activity.defn
    def look(self, subscription_id: str) -> Standstill:
        """Let take effect what is due, and say how things stand. `bill_now`: the first or the last invoice is due."""
        with transaction(self.engine) as session:
            row = _locked(session, subscription_id)
            now = now_on(session, row.clock_id)
            settle(session, [row.root_id], now, row.clock_id)
            return self._standstill(session, row, now)

    @activity.defn
    def amend(self, amendment_id: str) -> Answer:
        """Carry out a stored amendment, or schedule it for its day. Asking again gives the first answer."""
        try:
            with transaction(self.engine) as session:
                asked = session.get(Amendment, amendment_id)
                if asked is None:
                    return Answer(False, f"There is no amendment {amendment_id!r}.", code="not_found")
                row = _locked(session, asked.subscription_id)
                session.refresh(asked)
                if asked.answer is not None:
                    return read(Answer, asked.answer)
                answer = self._amend(session, asked, row)
                asked.answer = asdict(answer)
                return answer
        except Refused as refusal:
            answer = _refusal(refusal)
            with transaction(self.engine) as session:
                asked = session.get(Amendment, amendment_id, with_for_update=True)
                if asked is not None and asked.answer is None:
                    asked.answer = asdict(answer)
            return answer

    def _amend(self, session: Session, asked: Amendment, row: Subscription) -> Answer:
        now = now_on(session, row.clock_id)
        settle(session, [row.root_id], now, row.clock_id)
        one = standing_of(session, row.id)
        change = change_of(session, asked, one.terms)
        refuse_double_metering(session, row.customer_id, row.id, change.plan, change.effective_on)
        seen = preview(one, change, now)
        if asked.preview_hash is not None and asked.preview_hash != seen.preview_hash:
            raise Refused(
                "The hash is not that of a preview of this change as things stand now.",
                code="preview_outdated",
                remedy="Ask for the preview again, look at it, and send the amendment with its hash under a new id;"
                " this one is used up.",
            )
        if asked.extras:
            redeem(session, row.id, asked.extras.coupons, asked.id, now)
        later = asked.effective_on > local_day(now, one.zone)
        if later:
            due_at = instant(asked.effective_on, one.zone)
            agenda.plan_ahead(session, subject_of(row.id), "amendment", asked.id, due_at, row.entity_id, row.clock_id)
        else:
            apply_amendment(session, asked, now)
        return Answer(
            True,
            effective_on=asked.effective_on.isoformat(),
            scheduled=later,
            net_minor=seen.net.minor,
            currency=one.currency,
        )

    @activity.defn
    def withdraw_amendment(self, amendment_id: str) -> Answer:
        """Undo an amendment that is planned. Asking again changes nothing; its coupons can be redeemed again."""
        with transaction(self.engine) as session:
            asked = session.get(Amendment, amendment_id)
            if asked is None:
                return Answer(False, f"There is no amendment {amendment_id!r}.", "List the amendments.", "not_found")
            row = _locked(session, asked.subscription_id)
            now = now_on(session, row.clock_id)
            settle(session, [row.root_id], now, row.clock_id)
            session.refresh(asked)
            if asked.withdrawn_at is not None:
                return Answer(True, effective_on=asked.effective_on.isoformat())
            if asked.id not in agenda.open_causes(session, subject_of(row.id)):
                said = "has taken effect" if asked.applied_at else "is not planned"
                remedy = "Amend the subscription again, under a new id."
                return Answer(False, f"The amendment {said}.", remedy, "nothing_to_withdraw")
            asked.withdrawn_at = now
            session.flush()
            rollout.skipped(session, row.id, "its amendment was withdrawn", now, asked.id)
            agenda.done(session, subject_of(row.id), asked.id, now, "withdrawn")
            return Answer(True, effective_on=asked.effective_on.isoformat())

    @activity.defn
    def cancel(self, cancellation_id: str) -> Answer:
        """Schedule a stored cancellation for its day. Asking again changes nothing."""
        with transaction(self.engine) as session:
            asked = session.get(Cancellation, cancellation_id)
            if asked is None:
                return Answer(False, f"There is no cancellation {cancellation_id!r}.", code="not_found")
            row = _locked(session, asked.subscription_id)
            session.refresh(asked)
            answer = Answer(True, effective_on=asked.effective_on.isoformat(), scheduled=True)
            if asked.scheduled_at is not None:
                return answer
            if open_cancellation(session, row.id) is not None:
                return Answer(False, "A cancellation stands already.", "Withdraw it first.", "already_cancelled")
            now = now_on(session, row.clock_id)
            settle(session, [row.root_id], now, row.clock_id)
            move(session, row, "schedule_cancellation", asked.id, now)
            asked.scheduled_at = now
            session.flush()
            one = standing_of(session, row.id)
            due_at = instant(asked.effective_on, one.zone)
            agenda.plan_ahead(session, subject_of(row.id), "end", asked.id, due_at, row.entity_id, row.clock_id)
            realign_lanes(session, row.id)
            tell_crm(session, row.id)
            return answer

    @activity.defn
    def withdraw_cancellation(self, subscription_id: str) -> Answer:
        """Undo a cancellation that has not taken effect."""
        with transaction(self.engine) as session:
            row = _locked(session, subscription_id)
            now = now_on(session, row.clock_id)
            settle(session, [row.root_id], now, row.clock_id)
            standing = open_cancellation(session, row.id)
            if standing is None or standing.applied_at is not None:
                reason = "There is no cancellation that could be withdrawn."
                remedy = "Read the subscription: `ends_on` says when it ends, if it does."
                return Answer(False, reason, remedy, "nothing_to_withdraw")
            move(session, row, "undo_cancellation", standing.id, now)
            standing.withdrawn_at = now
            session.flush()
            agenda.done(session, subject_of(row.id), standing.id, now, "withdrawn")
            realign_lanes(session, row.id)
            return Answer(True)

    @activity.defn
    def ask(self, question: ParkedStep) -> None:
        """A request was refused after its sender had gone: a person gets to know."""
        with transaction(self.engine) as session:
            _open_task(session, "request", question)

    @activity.defn
    def park(self, question: ParkedStep) -> None:
        """A step was refused: ask a person, and take the subject off the clock until they answer."""
        with transaction(self.engine) as session:
            _open_task(session, "step", question)
            agenda.park(session, question.subject, True)

    @activity.defn
    def resume(self, subject: str) -> None:
        """The person answered: due again what was parked."""
        with transaction(self.engine) as session:
            agenda.park(session, subject, False)

    def _standstill(self, session: Session, row: Subscription, now: datetime) -> Standstill:
        session.refresh(row)
        one = standing_of(session, row.id)
        behind = (
            cursor(session)
            .execute(
                "select count(*) from billing_lane where subscription_id = %s and next_bill_at <= %s"
                " and (billed_through = %s or %s)",
                (row.id, now, row.anchor, row.state == "ended"),
            )
            .fetchone()
        )
        return Standstill(
            state=row.state,
            next_due=agenda.next_due(session, subject_of(row.id)),
            now=now,
            on_clock=row.clock_id is not None,
            bill_now=bool(behind and behind[0]),
            customer=customer(session, row.customer_id).id,
            entity=row.entity_id,
            plan=f"{one.terms.plan.name} (version {one.terms.plan.version})",
            seats=str(one.terms.seats.normalize()),
            billed_through=one.billed_through("advance").isoformat(),
            ends_on=one.ends_on.isoformat() if one.ends_on else "",
        )


def _open_task(session: Session, kind: str, question: ParkedStep) -> None:
    """Opened on the clock on which its legal entity lives."""
    entity_id = question.entity_id or agenda.entity_of(session, question.subject)
    now = now_on(session, entity(session, entity_id).clock_id if entity_id else None)
    refusal = Refused(question.reason, remedy=question.remedy)
    task.open_task(session, kind, question.subject, entity_id, refusal, now)


def _locked(session: Session, subscription_id: str) -> Subscription:
    """The subscription, with the lock of its root taken before anything else is read."""
    row = subscription(session, subscription_id)
    lock_roots(session, [row.root_id])
    session.refresh(row)
    return row


def _refusal(refusal: Refused) -> Answer:
    faults = tuple((fault.field, fault.reason) for fault in refusal.faults)
    return Answer(False, refusal.reason, refusal.remedy, refusal.code, faults=faults)
