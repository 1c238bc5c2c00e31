-- Events lie by month of use, so that a month can be taken away; what makes an event unique is kept apart, and stays.

create table usage_key (
  key uuid primary key,
  content bigint not null,
  occurred_at timestamptz not null
);
comment on column usage_key.key is 'The first 16 bytes of the SHA-256 of "bytes of source:source" and id.';
comment on table usage_key is 'Every event that was ever taken in; one whose key is here is not counted again.';
comment on column usage_key.content is 'A digest of all else that was sent, by which another content is noticed; 0 if it'
  ' came before digests were kept, and any content passes.';

insert into usage_key (key, content, occurred_at)
  select encode(substring(sha256(convert_to(octet_length(source) || ':' || source || id, 'UTF8')) for 16), 'hex')::uuid,
         0, occurred_at
  from usage_event;

alter table usage_event rename to usage_event_before;

-- There are no foreign keys here and none on totals: customers and meters are never deleted, they are read in the
-- transaction that stores, and a check for each row would cost more than storing it.
create table usage_event (
  source text not null,
  id text not null,
  customer_id text not null,
  type text not null,
  occurred_at timestamptz not null,
  received_at timestamptz not null default now(),
  day date not null,
  data json not null,
  meters text[] not null,
  batch xid8 not null default pg_current_xact_id()
) partition by range (occurred_at);
comment on column usage_event.meters is 'The meters that count it: those there were when it came, or that counted it anew.';
comment on column usage_event.data is 'As it was sent, digit by digit.';
create index usage_event_customer on usage_event (customer_id, occurred_at);
-- Events come about in the order of their time, so a map of blocks finds one by its time, and costs next to nothing.
create index usage_event_time on usage_event using brin (occurred_at) with (pages_per_range = 16);

create table usage_event_other partition of usage_event default;
comment on table usage_event_other is 'Events of months that have no partition of their own yet.';
create trigger append_only before delete or truncate on usage_event execute function refuse_change();
create trigger append_only before delete or truncate on usage_event_other execute function refuse_change();

-- Which meters count an event may be said anew; the event itself stays as it came.
create function refuse_other_event() returns trigger language plpgsql as $$
begin
  old.meters := new.meters;
  if old::text <> new::text then
    raise exception 'usage_event is append-only: update refused'
      using errcode = 'PB001', hint = 'Make it void, and let another event count instead.';
  end if;
  return new;
end $$;
create trigger as_it_came before update on usage_event for each row execute function refuse_other_event();

-- Makes the partition of a month (in UTC), and moves there what came before it was made. Says whether it is new. Who
-- stores events has looked up beforehand where they go, so all of them wait while the partition is put in its place: what
-- can be done before is done before, and this gives up rather than let them wait for others.
create function make_usage_month(month date) returns boolean language plpgsql set lock_timeout = '2s' as $$
declare
  since constant timestamptz := date_trunc('month', month)::timestamp at time zone 'UTC';
  until constant timestamptz := (date_trunc('month', month) + interval '1 month')::timestamp at time zone 'UTC';
  name constant text := 'usage_event_' || to_char(month, 'YYYY_MM');
  seen constant pg_snapshot := pg_current_snapshot();
  move constant text := format('insert into %I select * from usage_event_other where occurred_at >= $1'
                               ' and occurred_at < $2 and pg_visible_in_snapshot(batch, $3) = $4', name);
begin
  perform pg_advisory_xact_lock(hashtext('usage months'));
  if to_regclass(name) is not null then
    return false;
  end if;
  execute format('create table %I (like usage_event including defaults including comments,'
                 ' constraint month check (occurred_at >= %L and occurred_at < %L))', name, since, until);
  execute move using since, until, seen, true;
  execute format('create index on %I (customer_id, occurred_at)', name);
  execute format('create index on %I using brin (occurred_at) with (pages_per_range = 16)', name);
  lock table only usage_event in share row exclusive mode;
  lock table usage_event_other in access exclusive mode;
  execute move using since, until, seen, false;
  alter table usage_event_other disable trigger append_only;
  delete from usage_event_other where occurred_at >= since and occurred_at < until;
  alter table usage_event_other enable trigger append_only;
  execute format('alter table usage_event attach partition %I for values from (%L) to (%L)', name, since, until);
  execute format('alter table %I drop constraint month', name);
  execute format('create trigger append_only before delete or truncate on %I execute function refuse_change()', name);
  return true;
end $$;

select make_usage_month(month) from (
  select distinct date_trunc('month', occurred_at at time zone 'UTC')::date as month from usage_event_before) m;
insert into usage_event select source, id, customer_id, type, occurred_at, received_at, day, data, meters, batch
  from usage_event_before;
drop table usage_event_before;

create table usage_taken (
  month date not null,
  customer_id text not null,
  meter_id text not null,
  quantity numeric not null,
  events bigint not null,
  primary key (month, customer_id, meter_id)
);
comment on table usage_taken is 'What the events of months that were taken away add up to, so that totals can be proved.';
comment on column usage_taken.quantity is 'The sum, where the meter adds quantities up; else the number of events.';

-- Takes the partition of a month out of the events; it stays as a table of its own. Says whether it was there.
create function take_usage_month(month date) returns boolean language plpgsql set lock_timeout = '2s' as $$
declare
  name constant text := 'usage_event_' || to_char(month, 'YYYY_MM');
  seen constant pg_snapshot := pg_current_snapshot();
  count constant text := format(
    'insert into usage_taken as t select date_trunc(''month'', $1)::date, e.customer_id, m.id,'
    ' sum(case when m.aggregation = ''sum'' then (e.data ->> m.quantity_field)::numeric else 1 end), count(*)'
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

-- Totals by day are what is billed from, totals by hour or minute are what is looked at. Both are rows that are changed
-- in place, so there is room on their pages.
alter table usage_total drop constraint usage_total_customer_id_fkey, drop constraint usage_total_meter_id_fkey;
alter table usage_total
  add column at timestamptz not null default '-infinity',
  set (fillfactor = 70);
comment on column usage_total.at is 'Time of the latest event, where the latest quantity is kept.';

create table usage_window (
  customer_id text not null,
  meter_id text not null,
  starts_at timestamptz not null,
  properties jsonb not null,
  each numeric not null,
  quantity numeric not null,
  events bigint not null,
  at timestamptz not null default '-infinity',
  primary key (customer_id, meter_id, starts_at, properties, each)
) with (fillfactor = 70);

alter table meter
  add column resolution text not null default 'hour' check (resolution in ('minute', 'hour', 'day')),
  add column aggregation text not null default 'sum'
    check (aggregation in ('sum', 'count', 'average', 'max', 'min', 'latest', 'unique')),
  add column filters jsonb not null default '[]';
comment on column meter.resolution is 'The shortest window for which totals are kept.';

-- What became of what was sent, for the audit.
create table usage_answered (
  customer_id text not null,
  type text not null,
  day date not null,
  outcome text not null check (outcome in ('accepted', 'duplicate', 'conflict')),
  events bigint not null,
  primary key (customer_id, type, day, outcome)
) with (fillfactor = 70);

insert into usage_answered
  select customer_id, type, day, 'accepted', count(*) from usage_event group by 1, 2, 3;

create table usage_conflict (
  source text not null,
  id text not null,
  content bigint not null,
  customer_id text not null,
  event json not null,
  received_at timestamptz not null default now(),
  primary key (source, id, content)
);
comment on table usage_conflict is 'Other contents that came under the source and id of an event that counts already.';

alter table usage_quarantine alter column event type json using event::json;
comment on column usage_quarantine.event is 'As it was sent, digit by digit.';

create table usage_void (
  source text not null,
  id text not null,
  customer_id text not null,
  type text not null,
  day date not null,
  reason text not null,
  instead_source text,
  instead_id text,
  by_key text not null,
  voided_at timestamptz not null default now(),
  batch xid8 not null default pg_current_xact_id(),
  primary key (source, id),
  check ((instead_source is null) = (instead_id is null))
);
comment on table usage_void is 'Events that do not count any more, kept all the same; and which event counts instead.';
create index on usage_void (customer_id, day);
create trigger append_only before update or delete or truncate on usage_void execute function refuse_change();
