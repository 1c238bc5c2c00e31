"""Which months of events wait for a partition; what events are is in event.py, how one is made in the migrations."""

from __future__ import annotations

from datetime import date

from sqlmodel import Session

from models.database import cursor


def crowded(session: Session, most: int) -> list[date]:
    """Months (in UTC) without a partition of which more than `most` events have come.

    Those of a month whose partition was taken away and kept beside stay where they are.
    """
    rows = cursor(session).execute(
        "select month from ("
        "select date_trunc('month', occurred_at at time zone 'UTC')::date as month, count(*) as events"
        " from usage_event_other group by 1) m"
        " where events > %s and to_regclass('usage_event_' || to_char(month, 'YYYY_MM')) is null order by 1",
        (most,),
    )
    return [month for (month,) in rows]
