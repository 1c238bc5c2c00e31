"""Prepaid credits drawn on an invoice: after tax, as a tender, in whole minor units, never more than is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.money import Money


@dataclass(frozen=True, slots=True)
class Grant:
    """Credit that a customer bought and what is left of it. `expires_at` itself is excluded."""

    grant_id: str
    remaining: Money
    priority: int
    granted_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """`amount` taken from a grant."""

    grant_id: str
    amount: Money


def draw(grants: Sequence[Grant], due: Money, at: datetime) -> tuple[Draw, ...]:
    """Which grants pay how much of `due`: by priority, then earliest expiry, then oldest.

    Grants in another currency than `due` are left alone.
    """
    taken: list[Draw] = []
    open_ = due
    for grant in sorted(grants, key=_burn_order):
        if open_.minor <= 0:
            break
        expired = grant.expires_at is not None and grant.expires_at <= at
        if expired or grant.remaining.currency != due.currency or grant.remaining.minor <= 0:
            continue
        part = min(grant.remaining, open_)
        taken.append(Draw(grant.grant_id, part))
        open_ = open_ - part
    return tuple(taken)


def _burn_order(grant: Grant) -> tuple[int, bool, datetime, datetime, str]:
    never = grant.expires_at is None
    return (
        grant.priority,
        never,
        grant.expires_at or grant.granted_at,
        grant.granted_at,
        grant.grant_id,
    )
