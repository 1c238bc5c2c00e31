-- A meter that is made late counts events that none counted before; it must know of months in which they are gone.

comment on column usage_taken.meter_id is 'Empty in the row that says that the customer had events in the month at all.';

-- Of months that were taken away before this, who had events is told by the audit, whose days are local ones.
insert into usage_taken (month, customer_id, meter_id, quantity, events)
  select distinct t.month, a.customer_id, '', 0, 0
  from (select distinct month from usage_taken) t
  join usage_answered a on a.outcome = 'accepted' and a.day >= t.month - 1 and a.day <= t.month + interval '1 month';

create or replace function take_usage_month(month date) returns boolean language plpgsql set lock_timeout = '2s' as $$
declare
  name constant text := 'usage_event_' || to_char(month, 'YYYY_MM');
  seen constant pg_snapshot := pg_current_snapshot();
  count constant text := format(
    'insert into usage_taken as t select date_trunc(''month'', $1)::date, e.customer_id, d.meter_id,'
    ' sum(case when proved_by_sum(d.m) then (e.data ->> (d.m).quantity_field)::numeric else 1 end), count(*)'
    ' from %I e cross join lateral unnest(counted_by(e.meters)) as c (meter_id)'
    ' join meter_days d on d.meter_id = c.meter_id and e.day >= d.since and e.day < d.until'
    ' where pg_visible_in_snapshot(e.batch, $2) = $3'
    ' and not exists (select from usage_void v where v.source = e.source and v.id = e.id) group by 2, 3'
    ' on conflict on constraint usage_taken_pkey do update'
    ' set quantity = t.quantity + excluded.quantity, events = t.events + excluded.events', name);
  whose constant text := format(
    'insert into usage_taken select distinct date_trunc(''month'', $1)::date, e.customer_id, '''', 0, 0 from %I e'
    ' where pg_visible_in_snapshot(e.batch, $2) = $3 on conflict on constraint usage_taken_pkey do nothing', name);
begin
  perform pg_advisory_xact_lock(hashtext('usage months'));
  if not exists (select from pg_inherits where inhparent = 'usage_event'::regclass and inhrelid = to_regclass(name)) then
    return false;
  end if;
  if exists (select from meter_rebuild where settled_at is null and since <= date_trunc('month', month) + interval '1 month'
             and until > date_trunc('month', month) - interval '1 day') then
    raise exception 'days of this month are being counted anew: it was not taken away'
      using hint = 'Apply or drop the rebuild, and take the month away when it is settled.';
  end if;
  execute count using month, seen, true;
  execute whose using month, seen, true;
  lock table only usage_event in access exclusive mode;
  execute count using month, seen, false;
  execute whose using month, seen, false;
  execute format('alter table usage_event detach partition %I', name);
  return true;
end $$;

-- Names of void events stay taken, also where others are forgotten.
create index usage_void_key on usage_void (usage_key_of(source, id));
