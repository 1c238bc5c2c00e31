"""What is sold: how many running subscriptions have which version of a plan or add-on."""

from __future__ import annotations

from sqlmodel import Session

from models.database import cursor

# By their newest terms, which may begin later: who has signed already is touched already.
_SOLD = """
with newest as (
  select t.plan_id, t.plan_version, t.extras
  from subscription s
  join subscription_terms t on t.subscription_id = s.id and t.version = s.terms_version
  where s.state <> 'ended'
), held as (
  select plan_id, plan_version as version from newest
  union all
  select a->>'plan_id', (a->>'version')::int
  from newest cross join lateral jsonb_array_elements(coalesce(extras->'add_ons', '[]'::jsonb)) a
)
select plan_id, version, count(*) from held group by plan_id, version order by plan_id, version
"""


def sold_counts(session: Session) -> dict[tuple[str, int], int]:
    """Running (or not yet started) subscriptions by plan or add-on and version."""
    return {(plan_id, version): count for plan_id, version, count in cursor(session).execute(_SOLD)}
