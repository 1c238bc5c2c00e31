"""What became of all that was sent, in numbers: by customer, type of event and local day."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlmodel import Field, Session, SQLModel

from billing.catalog import Meter
from models.database import Part, columns, cursor
from models.values import large


class UsageAnswered(SQLModel, table=True):
    """How many events of a customer's day were answered so: accepted, duplicate or conflict; the sum of all slots."""

    __tablename__ = "usage_answered"
    customer_id: str = Field(primary_key=True)
    type: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    outcome: str = Field(primary_key=True)
    slot: int = Field(primary_key=True)
    events: int = large()


def additions(answered: Counter[tuple[str, str, date, str]]) -> list[Part]:
    """What adds to the numbers, to be entered in a slot."""
    some = [(*key, events) for key, events in answered.items() if events]
    if not some:
        return []
    return [
        Part(
            "insert into usage_answered as a (slot, customer_id, type, day, outcome, events)"
            " select * from slot, unnest(%s::text[], %s::text[], %s::date[], %s::text[], %s::bigint[])"
            " order by 2, 3, 4, 5 on conflict (customer_id, type, day, outcome, slot)"
            " do update set events = a.events + excluded.events",
            columns(some, 5),
        )
    ]


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of a customer's events of one type over some days; for a meter, whose figures the last four are.

    received = accepted + duplicate + conflict + quarantined + discarded, and accepted = counted + uncounted + amended +
    voided.

    accepted: stored, each once. duplicate: came again. conflict: came under another one's name, with another content.
    quarantined: wait to be sent again. discarded: waited, and shall never count. amended: do not count any more,
    another event does instead. voided: do not count any more. stored: the stored events counted afresh, which must be
    those accepted, less those of months that were taken away. late: of these, those that came when the meter's window
    of their day had been billed. counted: those in the meter's totals. uncounted: all other accepted ones, which the
    meter did not count for want of a quantity, by its filters, or because it was made later.
    """

    received: int
    accepted: int
    duplicate: int
    conflict: int
    quarantined: int
    discarded: int
    amended: int
    voided: int
    stored: int
    late: int
    counted: int
    uncounted: int


# One statement, so that all figures are of one moment. An event is late if the window of its day was signed by somebody
# who did not see it; the first signature of a window is that of its bill.
_AUDIT = """
with billed as materialized (
  select distinct on (period_start, period_end) period_start, period_end, snapshot from usage_proof
  where customer_id = %(customer)s and meter_id = %(meter)s and period_start < %(until)s and period_end > %(since)s
  order by period_start, period_end, signed_at),
answered as (
  select coalesce(sum(events) filter (where outcome = 'accepted'), 0)::bigint as accepted,
    coalesce(sum(events) filter (where outcome = 'duplicate'), 0)::bigint as duplicate,
    coalesce(sum(events) filter (where outcome = 'conflict'), 0)::bigint as conflict
  from usage_answered
  where customer_id = %(customer)s and type = %(type)s and day >= %(since)s and day < %(until)s),
waiting as (
  select count(*) filter (where q.discarded_at is null) as quarantined,
    count(*) filter (where q.discarded_at is not null) as discarded,
    coalesce(sum(q.duplicates), 0)::bigint as more_duplicates, coalesce(sum(q.conflicts), 0)::bigint as more_conflicts
  from usage_quarantine q join customer c on c.id = %(customer)s
  where (q.subject = c.id or q.subject in (select alias from customer_alias a where a.customer_id = c.id))
    and q.replayed_at is null and q.event ->> 'type' = %(type)s
    and ((q.event ->> 'time')::timestamptz at time zone c.time_zone)::date >= %(since)s
    and ((q.event ->> 'time')::timestamptz at time zone c.time_zone)::date < %(until)s),
void as (
  select count(*) filter (where instead_id is not null) as amended,
    count(*) filter (where instead_id is null) as voided
  from usage_void where customer_id = %(customer)s and type = %(type)s and day >= %(since)s and day < %(until)s),
kept as (
  select count(*) as stored, count(*) filter (where exists (
    select from billed b where e.day >= b.period_start and e.day < b.period_end
      and not pg_visible_in_snapshot(e.batch, b.snapshot))) as late
  from usage_event e
  where customer_id = %(customer)s and type = %(type)s and day >= %(since)s and day < %(until)s
    and occurred_at >= %(since)s::date - 1 and occurred_at < %(until)s::date + 1),
total as (
  select coalesce(sum(t.events), 0)::bigint as counted from usage_total t
  join meter_span n on n.series = t.meter_id and t.day >= n.since and t.day < n.until
  where t.customer_id = %(customer)s and n.meter_id = %(meter)s and t.day >= %(since)s and t.day < %(until)s)
select accepted + duplicate + more_duplicates + conflict + more_conflicts + quarantined + discarded,
  accepted, duplicate + more_duplicates, conflict + more_conflicts, quarantined, discarded, amended, voided,
  stored, late, counted, accepted - amended - voided - counted
from answered, waiting, void, kept, total
"""


def audit(session: Session, customer_id: str, meter: Meter, since: date, until: date) -> Audit:
    """Of a meter's type of event, over local days from `since` up to, not including, `until`."""
    asked = {"customer": customer_id, "type": meter.event_type, "meter": meter.meter_id, "since": since, "until": until}
    row = cursor(session).execute(_AUDIT, asked).fetchone()
    assert row is not None
    return Audit(*row)
