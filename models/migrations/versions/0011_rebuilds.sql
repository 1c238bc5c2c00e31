-- What a meter counts can be changed, and days can be counted anew for all customers: beside the totals that hold, under
-- a name of their own (a series), until one row says that they hold. Totals and events name the series; a meter's first
-- one has the meter's id, later ones that and a number.

alter table meter add column version int not null default 1;

create table meter_version (
  meter_id text not null references meter,
  version int not null,
  since date not null,
  content jsonb not null,
  made_at timestamptz not null default now(),
  made_with text not null default '',
  primary key (meter_id, version)
);
comment on table meter_version is 'How a meter counted and counts; the last version is repeated in meter. What it is called and'
  ' what becomes of late usage does not belong to a version.';
comment on column meter_version.since is 'The local day from which it was to hold; the first version, from all days.';
create trigger append_only before update or delete or truncate on meter_version execute function refuse_change();

create table meter_span (
  meter_id text not null,
  since date not null,
  until date not null,
  series text not null,
  version int not null,
  primary key (meter_id, since),
  foreign key (meter_id, version) references meter_version,
  check (since < until)
);
comment on table meter_span is 'Which series holds which local days of a meter, and the version that it is counted by.'
  ' There is one row for each stretch of days, and no day without.';
create index on meter_span (series);

create function first_version() returns trigger language plpgsql as $$
begin
  insert into meter_version (meter_id, version, since, content) values (new.id, new.version, '0001-01-01', to_jsonb(new) - '{name,late}'::text[]);
  insert into meter_span values (new.id, '0001-01-01', '9999-12-31', new.id, new.version);
  return new;
end $$;
create trigger first_version after insert on meter for each row execute function first_version();
insert into meter_version (meter_id, version, since, content) select id, 1, '0001-01-01', to_jsonb(m) - '{name,late}'::text[] from meter m;
insert into meter_span select id, '0001-01-01', '9999-12-31', id, 1 from meter;

create view meter_days as
  select n.meter_id, n.series, n.since, n.until, n.version, c as m
  from meter_span n
  join meter_version v on v.meter_id = n.meter_id and v.version = n.version
  join meter m on m.id = n.meter_id
  -- What a version knows nothing of, because columns were added after it, is as it is now.
  cross join lateral jsonb_populate_record(m, v.content) c;
comment on view meter_days is 'Which series holds which days, and how they are counted (m).';

create table meter_rebuild (
  id text primary key,
  meter_id text not null references meter,
  series text not null unique,
  changes boolean not null,
  content jsonb not null,
  since date not null,
  until date not null,
  asked_at timestamptz not null default now(),
  asked_with text not null,
  opened_at timestamptz,
  seen text,
  events bigint not null default 0,
  counted bigint not null default 0,
  through_customer text not null default '',
  through_day date not null default '0001-01-01',
  counted_at timestamptz,
  customers bigint not null default 0,
  compared bigint not null default 0,
  compared_through text not null default '',
  compared_at timestamptz,
  apply_at timestamptz,
  apply_with text,
  applied_at timestamptz,
  batch bigint,
  drop_at timestamptz,
  drop_with text,
  dropped_at timestamptz,
  cleared_through text not null default '',
  settled_at timestamptz,
  check (since < until),
  check (applied_at is null or dropped_at is null)
);
comment on table meter_rebuild is 'Days of a meter counted anew for all customers, by the meter as it is or as it shall be.';
comment on column meter_rebuild.seen is 'Events of transactions that are visible in it are counted from what is stored;'
  ' all others were added by whoever took them in, or count them anew.';
comment on column meter_rebuild.batch is 'The transaction that let it hold.';
comment on column meter_rebuild.through_customer is 'What is stored is counted up to this customer and day, in order.';
create view meter_prepared as
  select r.meter_id, r.series, r.since, r.until, c as m
  from meter_rebuild r join meter m on m.id = r.meter_id cross join lateral jsonb_populate_record(m, r.content) c;
comment on view meter_prepared is 'Of rebuilds: the series, its days, and how they are counted (m).';
create unique index meter_rebuild_open on meter_rebuild (meter_id) where settled_at is null;

create table meter_difference (
  rebuild_id text not null references meter_rebuild,
  customer_id text not null,
  day date not null,
  before numeric not null,
  after numeric not null,
  primary key (rebuild_id, customer_id, day)
);
comment on table meter_difference is 'Days whose totals a rebuild changes: the quantity that held, and that of the rebuild.';

create table meter_worth (
  rebuild_id text not null references meter_rebuild,
  customer_id text not null,
  currency text not null,
  late_minor bigint not null,
  open_minor bigint not null,
  refused text,
  primary key (rebuild_id, customer_id, currency)
);
comment on table meter_worth is 'What a rebuild is worth to a customer, net, in minor units: on periods that are billed'
  ' (late_minor) and on those that are not yet (open_minor); or why that cannot be said (refused).';

-- The marks of an event say which meters count it. One with a number tells of a rebuild: that it counts the event if what
-- held before it did not, or the other way round. So an odd number of marks that hold means that the meter counts it,
-- before and after a rebuild is applied, and while its marks are settled into plain ones.
create function counted_by_rebuilt(marks text[]) returns text[] language plpgsql stable as $$
declare
  mark text;
  found text[] := '{}';
begin
  foreach mark in array marks loop
    if strpos(mark, '@') > 0 then
      continue when not exists (select from meter_rebuild r where r.series = mark and r.applied_at is not null);
      mark := split_part(mark, '@', 1);
    end if;
    found := case when mark = any(found) then array_remove(found, mark) else array_append(found, mark) end;
  end loop;
  return found;
end $$;
-- Nearly all events have plain marks only: this much is written into the query that asks, and no function is called.
create function counted_by(marks text[]) returns text[] language sql stable as $$
  select case when strpos(array_to_string(marks, ' '), '@') = 0 then marks else counted_by_rebuilt(marks) end
$$;
comment on function counted_by is 'The meters that count an event, by its marks.';
comment on column usage_event.meters is 'Marks of the meters that count it, see counted_by().';
comment on column usage_total.meter_id is 'The series: the meter, or, of days that were counted anew, meter and number.';
comment on column usage_window.meter_id is 'The series: the meter, or, of days that were counted anew, meter and number.';

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
  lock table only usage_event in access exclusive mode;
  execute count using month, seen, false;
  execute format('alter table usage_event detach partition %I', name);
  return true;
end $$;
