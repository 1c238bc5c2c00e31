-- Meters whose quantity goes on from period to period, and meters of a formula over the event's fields.

alter table meter drop constraint meter_aggregation_check;
alter table meter
  add constraint meter_aggregation_check check (aggregation in ('sum', 'count', 'average', 'max', 'min', 'latest', 'unique',
    'percentile', 'peak_rate', 'weighted_sum')),
  add column time_unit text check (time_unit in ('second', 'hour', 'day')),
  add column operation_field text not null default '',
  add column carries_over boolean not null default false,
  add column expression text not null default '',
  add constraint meter_time_unit check ((aggregation = 'weighted_sum') = (time_unit is not null)),
  add constraint meter_operation_field check (operation_field = '' or aggregation = 'unique'),
  add constraint meter_carries_over check (not carries_over or aggregation in ('sum', 'latest')
    or (aggregation = 'unique' and operation_field <> '')),
  add constraint meter_expression check (expression = '' or quantity_field = '');
comment on column meter.time_unit is 'By which the time that a level stood is counted.';
comment on column meter.operation_field is 'Says of each value whether it is added or removed.';
comment on column meter.expression is 'A formula over the event''s fields, in place of quantity_field.';

alter table usage_total add column weighted numeric not null default 0;
alter table usage_window add column weighted numeric not null default 0;
comment on column usage_total.weighted is 'The sum of the quantities times the seconds from the start of the day to each.';
comment on column usage_window.weighted is 'The sum of the quantities times the seconds from the start of the window to each.';

-- Whether a period begins with the level of before.
create function carries(meter) returns boolean language sql immutable as $$
  select $1.carries_over or $1.aggregation = 'weighted_sum'
$$;

-- Quantities are proved by their sum where they stand in the events; of all others, by how many events there are.
create function proved_by_sum(meter) returns boolean language sql immutable as $$
  select $1.aggregation in ('sum', 'weighted_sum') and $1.expression = ''
$$;

create or replace function take_usage_month(month date) returns boolean language plpgsql set lock_timeout = '2s' as $$
declare
  name constant text := 'usage_event_' || to_char(month, 'YYYY_MM');
  seen constant pg_snapshot := pg_current_snapshot();
  count constant text := format(
    'insert into usage_taken as t select date_trunc(''month'', $1)::date, e.customer_id, m.id,'
    ' sum(case when proved_by_sum(m) then (e.data ->> m.quantity_field)::numeric else 1 end), count(*)'
    ' from %I e join meter m on m.id = any(e.meters) where pg_visible_in_snapshot(e.batch, $2) = $3'
    ' and not exists (select from usage_void v where v.source = e.source and v.id = e.id) group by 2, 3'
    ' on conflict on constraint usage_taken_pkey do update'
    ' set quantity = t.quantity + excluded.quantity, events = t.events + excluded.events', name);
begin
  perform pg_advisory_xact_lock(hashtext('usage months'));
  if not exists (select from pg_inherits where inhparent = 'usage_event'::regclass and inhrelid = to_regclass(name)) then
    return false;
  end if;
  execute count using month, seen, true;
  lock table only usage_event in access exclusive mode;
  execute count using month, seen, false;
  execute format('alter table usage_event detach partition %I', name);
  return true;
end $$;
