"""Who a roll-out would move, on which day and at what price: facts read in sets, the engine asked, nothing stored.

For the members of a roll-out and for a dry run alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlmodel import Session

from billing.amending import Change, preview
from billing.catalog import Extras, Override
from billing.errors import Refused
from billing.ids import derive
from billing.period import Period, local_day
from billing.plan import Plan
from billing.rollout import Guard, Judged, in_share, judge, last_whole_period, move_day
from billing.standing import Standing
from models.catalog import plan
from models.entry import overrides_of
from models.rollout import Rollout, RolloutMember, audience_of, members_of
from models.selling import (
    Metering,
    Sold,
    Versions,
    meterings,
    meters_of,
    newest_extras,
    sold_with,
    versions_in,
)
from models.signing import refuse_metered_anew
from models.standing import standings
from models.usage import totals_of


@dataclass(frozen=True, slots=True)
class Movable:
    """A subscription that a roll-out is about: its change and what that does to its bill; or why it cannot move."""

    standing: Standing
    change: Change | None
    judged: Judged | None
    why: str


def amendment_of(rollout_id: str, subscription_id: str) -> str:
    """The id of the amendment by which a roll-out moves a subscription."""
    return derive("amd", "rollout", rollout_id, subscription_id)


def movable(session: Session, row: Rollout, root_ids: Sequence[str], now: datetime) -> list[Movable]:
    """The subscriptions of these roots that the roll-out is about and that are no members yet, in order of root and id,
    each judged.
    """
    members = {one.subscription_id for one in members_of(session, row.id, root_ids)}
    standing = [one for one in standings(session, root_ids, row.entity_id) if one.subscription_id not in members]
    concerned = [one for one in standing if _concerns(row, one)]
    changes = _Changes.read(session, row, concerned)
    first = min((_usage_period(one, now).start for one in concerned), default=None)
    customers = sorted({one.customer_id for one in concerned})
    totals = totals_of(session, customers, first)
    metered = meterings(session, customers, min((local_day(now, one.zone) for one in concerned), default=now.date()))
    found: list[Movable] = []
    for one in concerned:
        today = local_day(now, one.zone)
        day = move_day(audience_of(row), row.on_day, one, today)
        try:
            change = changes.of(one, day)
            _check(one, change, now, metered[one.customer_id])
            judged = judge(one, change, totals[one.customer_id], guard_of(row), today)
        except Refused as refusal:
            found.append(Movable(one, None, None, words_of(refusal)))
            continue
        found.append(Movable(one, change, judged, _why(row, judged)))
        if judged.outcome == "planned":  # The next one of this customer may not price the same meters.
            metered[one.customer_id].append(Metering(one.subscription_id, meters_of(change.plan)))
    return found


def member(row: Rollout, one: Movable, now: datetime) -> RolloutMember:
    """The row of a roll-out's member, as it begins."""
    outcome = one.judged.outcome if one.judged else "skipped"
    terms = one.standing.terms
    return RolloutMember(
        rollout_id=row.id,
        subscription_id=one.standing.subscription_id,
        root_id=one.standing.root_id,
        from_plan_id=terms.plan.plan_id,
        from_version=terms.plan.version,
        move_on=one.change.effective_on if one.change else None,
        currency=one.standing.currency,
        before_minor=one.judged.before.minor if one.judged else None,
        after_minor=one.judged.after.minor if one.judged else None,
        why=one.why,
        amendment_id=one.change.amendment_id if one.change and outcome == "planned" else None,
        held_at=now if outcome == "held" else None,
        refused_at=now if outcome == "refused" else None,
        planned_at=now if outcome == "planned" else None,
        skipped_at=now if outcome == "skipped" else None,
        state=outcome,
    )


@dataclass(frozen=True, slots=True)
class _Changes:
    """What puts the target together for each subscription, read once for all of them: what an amendment would do."""

    row: Rollout
    target: Plan
    extras: Mapping[str, Extras]
    add_ons: Versions
    overrides: Mapping[str, Sequence[Override]]

    @classmethod
    def read(cls, session: Session, row: Rollout, concerned: Sequence[Standing]) -> _Changes:
        extras = newest_extras(session, [one.subscription_id for one in concerned])
        overrides = overrides_of(session, sorted({one.customer_id for one in concerned}))
        target = plan(session, row.to_plan_id, row.to_version)
        return cls(row, target, extras, versions_in(session, list(extras.values())), overrides)

    def of(self, one: Standing, day: date) -> Change:
        """The same terms with the target; one that does not fit is refused with all faults when it is looked at."""
        terms, extras = one.terms, self.extras[one.subscription_id]
        found = Sold(self.target, extras)
        if one.currency in self.target.currencies and self.target.interval == one.interval:
            found = sold_with(self.overrides[one.customer_id], self.add_ons, self.target, one.currency, day, extras)
        name = amendment_of(self.row.id, one.subscription_id)
        return Change(name, day, found.plan, terms.seats, terms.discount_percent, found.extras.coupons, found.extras)


def check_move(session: Session, one: Standing, change: Change, now: datetime) -> None:
    """Refused if the change cannot be made."""
    _check(one, change, now, meterings(session, [one.customer_id], change.effective_on)[one.customer_id])


def _check(one: Standing, change: Change, now: datetime, metered: Sequence[Metering]) -> None:
    preview(one, change, now)
    refuse_metered_anew(one, change, metered)


def guard_of(row: Rollout) -> Guard | None:
    if row.guard_percent is None:
        return None
    return Guard(Decimal(row.guard_percent), "hold" if row.guard_action == "hold" else "refuse")


def words_of(refusal: Refused) -> str:
    return " ".join([refusal.reason, *(f"{fault.field} {fault.reason}." for fault in refusal.faults)])


def _why(row: Rollout, judged: Judged) -> str:
    return judged.words if judged.outcome == "planned" else f"{judged.words}, by more than {row.guard_percent:f}%"


def _concerns(row: Rollout, one: Standing) -> bool:
    """Whether the roll-out is about a subscription as it stands, by its plan and by the cohort."""
    sold = (one.terms.plan.plan_id, one.terms.plan.version)
    if one.state == "ended" or sold[0] != row.plan_id or sold == (row.to_plan_id, row.to_version):
        return False
    if row.subscriptions or row.customers:
        return one.subscription_id in row.subscriptions or one.customer_id in row.customers
    return row.share_percent is None or in_share(one.customer_id, row.share_percent)


def _usage_period(one: Standing, now: datetime) -> Period:
    return last_whole_period(one, local_day(now, one.zone))
