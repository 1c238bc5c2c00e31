-- Meters keep properties and single events; totals are kept by them.

alter table meter
  add column dimensions text[] not null default '{}' check (cardinality(dimensions) <= 5),
  add column per_event boolean not null default false;
comment on column meter.dimensions is 'Fields of the event whose values are kept apart in totals.';
comment on column meter.per_event is 'Whether totals are kept by the quantity of each event.';

alter table usage_total
  add column properties jsonb not null default '{}',
  add column each numeric not null default 0,
  drop constraint usage_total_pkey,
  add primary key (customer_id, meter_id, day, properties, each);
comment on column usage_total.properties is 'Names and values, as text, of the meter''s dimensions that the events had.';
comment on column usage_total.each is 'The quantity of each of the events; 0 if the meter adds all events up.';

-- Events are only ever added, so their number tells whether there is usage that billing has not seen.
create table usage_seen (
  subscription_id text primary key references subscription,
  events bigint not null
);
comment on table usage_seen is 'Of a subscription that has ended: how many events of its days were there when it was last billed.';
