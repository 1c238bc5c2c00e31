"""The rows of `usage_total` as a bill reads them, each with how its meter counts; models/usage.py adds them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from sqlmodel import Session

from billing.aggregation import APART, kept_by
from billing.folding import Total, added
from billing.portion import Aggregation, TimeUnit
from billing.usage import BEFORE
from models.database import cursor


class UsageRow(NamedTuple):
    """What a meter kept of a customer's day (`BEFORE`: of all earlier days), and how it goes on from there.

    `slot` and `at` are as in the table, but that `at` is None where the latest is not kept. `snapshot` is None, but in
    the one row that has it and nothing else.
    """

    customer_id: str
    meter_id: str
    day: date
    quantity: Decimal
    events: int
    properties: Mapping[str, str] | None
    each: Decimal | None
    aggregation: Aggregation
    percent: Decimal | None
    weighted: Decimal
    digest: Decimal
    carries_over: bool
    operations: bool
    time_unit: TimeUnit | None
    time_zone: str
    slot: int
    at: datetime | None
    snapshot: str | None


@dataclass(frozen=True, slots=True)
class UsageRows:
    """All of one moment; `snapshot` is PostgreSQL's word for it."""

    rows: list[UsageRow]
    snapshot: str


def usage_rows(session: Session, customer_ids: Sequence[str], since: date | None, until: date | None) -> UsageRows:
    """Of the days from `since` to before `until`; of meters that carry over, what earlier days leave is there too."""
    asked = {"customers": list(customer_ids), "since": since, "until": until, "before": BEFORE, "apart": list(APART)}
    rows: list[UsageRow] = []
    snapshot = ""
    for row in map(UsageRow._make, cursor(session).execute(_HOLDING, asked)):
        if row.snapshot is None:
            rows.append(row)
        else:
            snapshot = row.snapshot
    return UsageRows(_without_slots(rows), snapshot)


def prepared_rows(session: Session, customer_ids: Sequence[str], series: str) -> list[UsageRow]:
    """Of a series that a rebuild counts."""
    asked = {"customers": list(customer_ids), "series": series, "apart": list(APART)}
    return _without_slots([UsageRow._make(row) for row in cursor(session).execute(_PREPARED, asked)])


def _without_slots(rows: list[UsageRow]) -> list[UsageRow]:
    """One row for each total. Few lie in several slots, so it is looked for others only where there is one."""
    several = {row[:3] for row in rows if row.slot}
    if not several:
        return rows
    found: dict[object, UsageRow] = {}
    for n, row in enumerate(rows):
        place = (*row[:3], frozenset((row.properties or {}).items()), row.each) if row[:3] in several else n
        found[place] = _together(found[place], row) if place in found else row
    return list(found.values())


def _together(one: UsageRow, other: UsageRow) -> UsageRow:
    whole = added(_total(one), _total(other))
    return one._replace(
        quantity=whole.quantity,
        events=whole.events,
        weighted=whole.weighted,
        digest=Decimal(whole.digest),
        at=whole.at,
    )


def _total(row: UsageRow) -> Total:
    kept = kept_by(row.aggregation, operations=row.operations)
    return Total(row.quantity, row.events, kept, row.at, row.weighted, int(row.digest))


_COLUMNS = ", ".join(UsageRow._fields)


def _kept(days: Literal["meter_days", "meter_prepared"]) -> str:
    """What is kept of the days that this view gives to series."""
    return f"""
with kept as not materialized (
  select t.customer_id, d.meter_id, d.series, t.day, t.quantity, t.events, t.weighted, t.digest,
         nullif(t.properties, '{{}}') as properties,
         case when (d.m).per_event or (d.m).aggregation = any(%(apart)s) then t.each end as each,
         (d.m).aggregation, (d.m).percent,
         carries(d.m) as carries_over, (d.m).operation_field <> '' as operations, (d.m).time_unit, c.time_zone,
         t.slot, nullif(t.at, '-infinity') as at, null::text as snapshot
  from usage_total t
  join {days} d on d.series = t.meter_id and t.day >= d.since and t.day < d.until
  join customer c on c.id = t.customer_id
  where t.customer_id = any(%(customers)s)
)"""


# Earlier days leave the sum of the changes, or the latest of what is kept apart. The last row has the snapshot of
# all the others, as only their statement knows it.
_HOLDING = f"""
{_kept("meter_days")}
select {_COLUMNS} from kept
where (%(since)s::date is null or day >= %(since)s) and (%(until)s::date is null or day < %(until)s)

union all
select customer_id, meter_id, %(before)s::date,
       case when aggregation in ('sum', 'weighted_sum') then sum(quantity)
            else (array_agg(quantity order by day desc, at desc, quantity desc))[1] end,
       sum(events)::bigint, properties, each, aggregation, percent, 0, sum(digest),
       carries_over, operations, time_unit, time_zone, 0, null, null
from kept where carries_over and day < %(since)s
group by customer_id, meter_id, properties, each, aggregation, percent,
         carries_over, operations, time_unit, time_zone

union all
select {"null, " * (len(UsageRow._fields) - 1)} pg_current_snapshot()::text
"""

_PREPARED = f"""
{_kept("meter_prepared")}
select {_COLUMNS} from kept where series = %(series)s
"""
