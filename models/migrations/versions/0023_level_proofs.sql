-- What a price does not tell apart is counted together since now: whoever has ended is looked at once more, as by a
-- recount; where the new rule makes another quantity of what was billed, it becomes late usage.
delete from usage_seen u using subscription s where s.id = u.subscription_id and exists (
  select from usage_total t join meter_days d on d.series = t.meter_id and t.day >= d.since and t.day < d.until
  where t.customer_id = s.customer_id and t.properties <> '{}'
    and (d.m).aggregation in ('average', 'max', 'min', 'unique', 'percentile', 'peak_rate'));

-- A level is made of events before the window, too: since now they are in the set that is signed.
alter table usage_proof add column with_earlier boolean not null default false;
comment on column usage_proof.with_earlier is 'Whether the set has all events before the window too: of a meter that'
  ' carries over, signed since migration 0023.';
