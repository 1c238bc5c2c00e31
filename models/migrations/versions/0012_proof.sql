-- What a bill was made of can be proved: a digest of the set of events behind every total, kept with what was billed.

create function usage_key_of(source text, id text) returns uuid language sql immutable parallel safe as $$
  select encode(substring(sha256(convert_to(octet_length(source) || ':' || source || id, 'UTF8')) for 16), 'hex')::uuid
$$;
comment on function usage_key_of is 'The key of usage_key for an event of that name.';

create function usage_digest(key uuid, content bigint) returns numeric language sql immutable parallel safe as $$
  select ('0x' || encode(substring(sha256(convert_to(replace(key::text, '-', '') || content, 'UTF8')) for 16),
                         'hex'))::numeric
$$;
comment on function usage_digest is 'What an event adds to the digest of a set: 128 bits of a digest of name and content.';

alter table usage_total add column digest numeric not null default 0;
comment on column usage_total.digest is 'The sum of usage_digest over the events. Of days from before it was kept, that of'
  ' the whole day stands in the first of the day''s rows.';

update usage_total t set digest = s.digest
from (
  select e.customer_id, m.meter_id, e.day, sum(usage_digest(k.key, k.content)) as digest
  from usage_event e
  cross join unnest(e.meters) as m (meter_id)
  join usage_key k on k.key = usage_key_of(e.source, e.id)
  where not exists (select from usage_void v where v.source = e.source and v.id = e.id)
  group by 1, 2, 3) s
join lateral (
  select properties, each from usage_total f
  where f.customer_id = s.customer_id and f.meter_id = s.meter_id and f.day = s.day order by 1, 2 limit 1) f on true
where t.customer_id = s.customer_id and t.meter_id = s.meter_id and t.day = s.day
  and t.properties = f.properties and t.each = f.each;

create table usage_proof (
  id text primary key,
  subscription_id text not null references subscription,
  customer_id text not null,
  item text not null,
  meter_id text not null,
  period_start date not null,
  period_end date not null,
  events bigint,
  digest numeric check (digest >= 0 and digest < 2 ^ 128::numeric),
  snapshot pg_snapshot not null,
  signed_at timestamptz not null default now(),
  invoice_id text references invoice,
  line_id text references invoice_line,
  check ((events is null) = (digest is null)),
  check ((invoice_id is null) = (line_id is null))
);
comment on table usage_proof is 'The set of events behind each quantity that was billed, as it was then; windows without'
  ' a line are here too.';
comment on column usage_proof.digest is 'The sum of usage_digest over them, modulo 2^128; null if it was billed before digests'
  ' were kept.';
comment on column usage_proof.snapshot is 'Which events were there: those whose transactions it sees.';
create index on usage_proof (invoice_id);
create index on usage_proof (customer_id, meter_id, period_start);
create trigger append_only before update or delete or truncate on usage_proof execute function refuse_change();

insert into usage_proof (id, subscription_id, customer_id, item, meter_id, period_start, period_end, snapshot, signed_at,
                         invoice_id, line_id)
  select 'up_' || l.id, l.subscription_id, i.customer_id, l.item, l.meter_id, l.period_start, l.period_end,
         i.usage_snapshot, i.issued_at, i.id, l.id
  from invoice_line l join invoice i on i.id = l.invoice_id
  where l.kind in ('usage', 'late_usage') and l.meter_id is not null;

-- Which meters counted an event can be said anew; what it was before can be told all the same.
create table usage_recounted (
  source text not null,
  id text not null,
  meter_id text not null,
  batch xid8 not null default pg_current_xact_id(),
  counted boolean not null,
  recounted_at timestamptz not null default now(),
  primary key (source, id, meter_id, batch)
);
comment on table usage_recounted is 'When a meter began to count an event that it had not counted, or ceased to.';
create trigger append_only before update or delete or truncate on usage_recounted execute function refuse_change();

create function keep_recounted() returns trigger language plpgsql as $$
begin
  insert into usage_recounted (source, id, meter_id, counted)
    select n.source, n.id, m.meter_id, m.meter_id = any(counted_by(n.meters))
    from events_before o join events_after n using (source, id, occurred_at)
    cross join unnest(counted_by(o.meters) || counted_by(n.meters)) as m (meter_id)
    where (m.meter_id = any(counted_by(o.meters))) <> (m.meter_id = any(counted_by(n.meters)))
    group by n.source, n.id, m.meter_id, n.meters;
  return null;
end $$;
create trigger recounted after update on usage_event referencing old table as events_before new table as events_after
  for each statement execute function keep_recounted();

-- Hours of usage that came before hours were kept, of meters that add up what every event has.
insert into usage_window (customer_id, meter_id, starts_at, properties, each, quantity, events)
  select e.customer_id, m.id, date_trunc('hour', e.occurred_at, c.time_zone), '{}'::jsonb, 0,
         sum(case m.aggregation when 'count' then 1 else (e.data ->> m.quantity_field)::numeric end), count(*)
  from usage_event e join meter m on m.id = any(e.meters) join customer c on c.id = e.customer_id
  where m.aggregation in ('sum', 'count') and m.resolution = 'hour' and m.dimensions = '{}' and not m.per_event
    and not exists (select from usage_void v where v.source = e.source and v.id = e.id)
    and not exists (select from usage_taken t where t.month = date_trunc('month', e.occurred_at at time zone 'UTC'))
  group by 1, 2, 3
  on conflict (customer_id, meter_id, starts_at, properties, each) do update
    set quantity = excluded.quantity, events = excluded.events;
