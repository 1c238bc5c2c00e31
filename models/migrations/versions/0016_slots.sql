-- Totals are kept in one row for each slot, and read as the sum of them: transactions that add to the same totals at once
-- have a slot each, and do not wait for one another (models/slot.py).

alter table usage_total
  add column slot smallint not null default 0,
  drop constraint usage_total_pkey,
  add primary key (customer_id, meter_id, day, properties, each, slot);
alter table usage_window
  add column slot smallint not null default 0,
  drop constraint usage_window_pkey,
  add primary key (customer_id, meter_id, starts_at, properties, each, slot);
alter table usage_answered
  add column slot smallint not null default 0,
  drop constraint usage_answered_pkey,
  add primary key (customer_id, type, day, outcome, slot);
comment on column usage_total.slot is 'The rows of a total are added up: each is changed by one transaction at a time.';
