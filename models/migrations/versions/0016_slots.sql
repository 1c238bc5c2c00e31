-- A total is kept in one row for each slot, and is what they make together: transactions that add to the same total at
-- once have a slot each, and do not wait for one another (models/slot.py). The tables are taken in the order of senders.

alter table usage_window
  add column slot smallint not null default 0,
  drop constraint usage_window_pkey,
  add primary key (customer_id, meter_id, starts_at, properties, each, slot);
alter table usage_total
  add column slot smallint not null default 0,
  drop constraint usage_total_pkey,
  add primary key (customer_id, meter_id, day, properties, each, slot);
alter table usage_answered
  add column slot smallint not null default 0,
  drop constraint usage_answered_pkey,
  add primary key (customer_id, type, day, outcome, slot);
comment on column usage_total.slot is 'A total is what its rows make together; one transaction at a time has a slot.';
comment on column usage_window.slot is 'As in usage_total.';
comment on column usage_answered.slot is 'As in usage_total.';
