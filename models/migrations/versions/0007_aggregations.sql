-- Further ways to make a quantity of events.

alter table meter drop constraint meter_aggregation_check;
alter table meter
  add constraint meter_aggregation_check check (aggregation in ('sum', 'count', 'average', 'max', 'min', 'latest', 'unique',
    'percentile', 'peak_rate')),
  add column percent numeric check (percent > 0 and percent < 100),
  add column rate_window text check (rate_window in ('minute', 'hour')),
  add constraint meter_percent check ((aggregation = 'percentile') = (percent is not null)),
  add constraint meter_rate_window check ((aggregation = 'peak_rate') = (rate_window is not null));
comment on column meter.percent is 'Which percentile; so many percent of the events do not exceed the quantity.';
comment on column meter.rate_window is 'The window of the customer''s clock whose sums are compared.';
comment on column usage_total.each is 'The quantity of each of the events, a digest of the value counted once, the middle of'
  ' a percentile''s bucket, or the minute since 1970 at which a rate''s window begins; 0 if the meter adds all events up.';
