-- The memory of Perennial: tables in the order of their dependence, then the rules that keep the ledger true.
-- Money is bigint minor units with a currency. Moments are timestamptz, days are local days of the customer.

create table test_clock (
  id text primary key,
  now_at timestamptz not null,
  target_at timestamptz not null,
  check (target_at >= now_at)
);

create table legal_entity (
  id text primary key,
  name text not null,
  country char(2) not null,
  functional_currency char(3) not null,
  time_zone text not null,
  address text not null,
  email text not null,
  vat_id text,
  clock_id text references test_clock,
  payment_terms_days int not null default 14 check (payment_terms_days >= 0),
  close_after_days int not null default 4 check (close_after_days between 0 and 27)
);

create table invoice_series (
  entity_id text not null references legal_entity,
  kind text not null check (kind in ('invoice', 'credit_note')),
  prefix text not null,
  next_number bigint not null default 1 check (next_number > 0),
  primary key (entity_id, kind)
);

create table api_key (
  id text primary key,
  name text not null,
  secret_sha256 bytea not null,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);

-- Catalog

create table meter (
  id text primary key,
  name text not null,
  event_type text not null,
  quantity_field text not null,
  unit text not null
);

create table plan (
  plan_id text not null,
  version int not null check (version > 0),
  currency char(3) not null,
  content jsonb not null,
  published_at timestamptz not null,
  primary key (plan_id, version)
);

create table tax_rate (
  country char(2) not null,
  valid_from date not null,
  valid_until date,
  percent numeric not null check (percent >= 0),
  source text not null,
  primary key (country, valid_from),
  check (valid_until > valid_from)
);

-- Customers and what was agreed

create table account_root (
  id text primary key
);
comment on table account_root is 'The one lock: whoever changes terms and whoever bills takes this row first.';

create table customer (
  id text primary key,
  root_id text not null references account_root,
  name text not null,
  email text not null,
  country char(2) not null,
  time_zone text not null,
  address text not null,
  vat_id text,
  vat_id_verified_on date,
  created_at timestamptz not null
);
create index on customer (root_id);

create table customer_alias (
  alias text primary key,
  customer_id text not null references customer
);

create table payment_method (
  customer_id text primary key references customer,
  gateway text not null,
  token text not null,
  added_at timestamptz not null
);

create table contract (
  id text primary key,
  customer_id text not null references customer,
  entity_id text not null references legal_entity,
  currency char(3) not null,
  signed_at timestamptz not null,
  payment_terms_days int not null check (payment_terms_days >= 0),
  purchase_order text,
  crm text,
  deal_id text,
  unique (crm, deal_id)
);

create table subscription (
  id text primary key,
  contract_id text not null references contract,
  customer_id text not null references customer,
  root_id text not null references account_root,
  entity_id text not null references legal_entity,
  clock_id text references test_clock,
  currency char(3) not null,
  time_zone text not null,
  anchor date not null,
  interval_unit text not null,
  interval_count int not null check (interval_count > 0),
  state text not null check (state in ('pending', 'active', 'ended')),
  terms_version int not null check (terms_version > 0)
);
create index on subscription (root_id);
create index on subscription (customer_id);

create table subscription_transition (
  subscription_id text not null references subscription,
  no int not null,
  from_state text,
  to_state text not null,
  event text not null,
  cause text not null,
  at timestamptz not null,
  primary key (subscription_id, no)
);

create table subscription_terms (
  subscription_id text not null references subscription,
  version int not null,
  effective_on date not null,
  plan_id text not null,
  plan_version int not null,
  seats numeric not null check (seats >= 0),
  discount_percent numeric not null check (discount_percent between 0 and 100),
  cause text not null,
  primary key (subscription_id, version),
  foreign key (plan_id, plan_version) references plan (plan_id, version)
);

create table amendment (
  id text primary key,
  subscription_id text not null references subscription,
  effective_on date not null,
  plan_id text,
  plan_version int,
  seats numeric,
  discount_percent numeric,
  requested_by text not null,
  requested_at timestamptz not null,
  preview_hash text,
  applied_at timestamptz,
  answer jsonb
);
create index on amendment (subscription_id);

create table cancellation (
  id text primary key,
  subscription_id text not null references subscription,
  effective_on date not null,
  reason text not null,
  requested_by text not null,
  requested_at timestamptz not null,
  scheduled_at timestamptz,
  applied_at timestamptz,
  withdrawn_at timestamptz
);
create unique index cancellation_one_open on cancellation (subscription_id)
  where scheduled_at is not null and withdrawn_at is null;

create table billing_lane (
  subscription_id text not null references subscription,
  lane text not null check (lane in ('advance', 'arrears')),
  entity_id text not null references legal_entity,
  clock_id text references test_clock,
  billed_through date not null,
  next_bill_at timestamptz,
  primary key (subscription_id, lane)
);
comment on column billing_lane.next_bill_at is 'Null once the subscription has ended and all of it is billed.';
create index on billing_lane (entity_id, next_bill_at) where next_bill_at is not null;

-- Usage

create table usage_event (
  source text not null,
  id text not null,
  customer_id text not null references customer,
  type text not null,
  occurred_at timestamptz not null,
  received_at timestamptz not null default now(),
  day date not null,
  data jsonb not null,
  meters text[] not null,
  batch xid8 not null default pg_current_xact_id(),
  primary key (source, id)
);
comment on column usage_event.meters is 'The meters that counted it, as they were when it came.';
create index on usage_event (customer_id, day);

create table usage_total (
  customer_id text not null references customer,
  meter_id text not null references meter,
  day date not null,
  quantity numeric not null,
  events bigint not null,
  primary key (customer_id, meter_id, day)
);

create table usage_quarantine (
  source text not null,
  id text not null,
  subject text not null,
  event jsonb not null,
  reason text not null,
  received_at timestamptz not null default now(),
  replayed_at timestamptz,
  primary key (source, id)
);
create index on usage_quarantine (subject) where replayed_at is null;

-- Invoices

create table billing_run (
  id text primary key,
  entity_id text not null references legal_entity,
  cutoff timestamptz not null,
  posted_on date not null,
  finished_at timestamptz
);

create table billing_batch (
  run_id text not null references billing_run,
  no int not null,
  result jsonb not null,
  primary key (run_id, no)
);

create table invoice (
  id text primary key,
  kind text not null check (kind in ('invoice', 'credit_note')),
  entity_id text not null references legal_entity,
  customer_id text not null references customer,
  contract_id text not null references contract,
  subscription_id text not null references subscription,
  currency char(3) not null,
  issued_on date not null,
  issued_at timestamptz not null,
  due_on date not null,
  period_start date not null,
  period_end date not null,
  net_minor bigint not null,
  tax_minor bigint not null,
  total_minor bigint not null,
  drawn_minor bigint not null,
  due_minor bigint not null,
  run_id text not null,
  usage_snapshot pg_snapshot not null default pg_current_snapshot(),
  check (total_minor = net_minor + tax_minor),
  check (due_minor = total_minor - drawn_minor)
);
create index on invoice (customer_id);
create index on invoice (entity_id, issued_on);
create index on invoice (subscription_id);

create table invoice_number (
  entity_id text not null,
  kind text not null,
  n bigint not null,
  number text not null unique,
  invoice_id text not null unique references invoice,
  primary key (entity_id, kind, n),
  foreign key (entity_id, kind) references invoice_series
);

create table invoice_line (
  id text primary key,
  invoice_id text not null references invoice,
  no int not null,
  subscription_id text not null references subscription,
  kind text not null,
  item text not null,
  description text not null,
  period_start date not null,
  period_end date not null,
  meter_id text references meter,
  quantity numeric not null,
  gross_minor bigint not null,
  discount_minor bigint not null,
  net_minor bigint not null generated always as (gross_minor - discount_minor) stored,
  currency char(3) not null,
  revenue text not null,
  because jsonb not null,
  unique (invoice_id, no)
);
create index on invoice_line (subscription_id, period_end);

create table invoice_tax (
  invoice_id text not null references invoice,
  no int not null,
  category text not null,
  jurisdiction text not null,
  percent numeric not null,
  base_minor bigint not null,
  tax_minor bigint not null,
  note text not null,
  primary key (invoice_id, no)
);

create table pending_item (
  id text primary key,
  subscription_id text not null references subscription,
  cause text not null,
  no int not null,
  line jsonb not null,
  created_at timestamptz not null,
  invoice_id text references invoice
);
create index on pending_item (subscription_id) where invoice_id is null;

create table document (
  invoice_id text primary key references invoice,
  media_type text not null,
  sha256 text not null,
  content bytea not null
);

-- Prepaid credits

create table credit_grant (
  id text primary key,
  customer_id text not null references customer,
  contract_id text not null references contract,
  invoice_id text not null references invoice,
  currency char(3) not null,
  amount_minor bigint not null check (amount_minor > 0),
  priority int not null default 100,
  granted_at timestamptz not null,
  usable_from timestamptz,
  expires_at timestamptz
);
comment on column credit_grant.usable_from is 'Set when the invoice it was bought on is paid.';
create index on credit_grant (customer_id);

create table credit_draw (
  invoice_id text not null references invoice,
  grant_id text not null references credit_grant,
  amount_minor bigint not null check (amount_minor > 0),
  primary key (invoice_id, grant_id)
);
create index on credit_draw (grant_id);

-- Payments

create table payment_attempt (
  id text primary key,
  invoice_id text not null references invoice,
  no int not null,
  gateway text not null,
  method_token text,
  amount_minor bigint not null check (amount_minor > 0),
  currency char(3) not null,
  state text not null check (state in ('started', 'pending', 'paid', 'declined')),
  reference text,
  decline_code text,
  decline_message text,
  decline_final boolean not null default false,
  started_at timestamptz not null,
  decided_at timestamptz,
  unique (invoice_id, no)
);

create table webhook_received (
  gateway text not null,
  event_id text not null,
  attempt_id text not null,
  outcome text not null,
  received_at timestamptz not null default now(),
  primary key (gateway, event_id)
);

-- What happens next, what must go out, what waits for a person

create table agenda (
  subject text not null,
  cause text not null,
  due_at timestamptz not null,
  rank int not null,
  kind text not null,
  entity_id text not null references legal_entity,
  clock_id text references test_clock,
  done_at timestamptz,
  outcome text,
  primary key (subject, cause)
);
create index on agenda (clock_id, due_at) where done_at is null;

create table outbox (
  id text primary key,
  door text not null,
  payload jsonb not null,
  entity_id text not null references legal_entity,
  clock_id text references test_clock,
  created_at timestamptz not null default clock_timestamp(),
  not_before timestamptz not null default clock_timestamp(),
  attempts int not null default 0,
  last_error text,
  delivered_at timestamptz
);
create index on outbox (door, not_before) where delivered_at is null;

create table task (
  id text primary key,
  kind text not null,
  subject text not null,
  entity_id text references legal_entity,
  reason text not null,
  remedy text not null,
  opened_at timestamptz not null,
  answered_at timestamptz,
  answered_by text,
  answered_with text,
  answer text
);
create index on task (subject) where answered_at is null;

create table crm_inbox (
  crm text not null,
  deal_id text not null,
  modified_at timestamptz not null,
  deal jsonb not null,
  faults jsonb not null default '[]',
  accepted_at timestamptz,
  primary key (crm, deal_id)
);

create table crm_watermark (
  crm text primary key,
  seen_through timestamptz not null
);

-- Ledger

create table ledger_period (
  entity_id text not null references legal_entity,
  month date not null check (extract(day from month) = 1),
  state text not null default 'open' check (state in ('open', 'closing', 'locked')),
  primary key (entity_id, month)
);

create table journal_entry (
  id text primary key,
  entity_id text not null references legal_entity,
  posted_on date not null,
  cause_kind text not null,
  cause_id text not null,
  description text not null,
  refers_to text,
  recorded_at timestamptz not null default clock_timestamp(),
  unique (cause_kind, cause_id)
);
create index on journal_entry (entity_id, posted_on);

create table journal_line (
  entry_id text not null references journal_entry,
  line_no int not null,
  entity_id text not null,
  account text not null,
  side char(1) not null check (side in ('D', 'C')),
  amount_minor bigint not null check (amount_minor > 0),
  currency char(3) not null,
  functional_minor bigint not null check (functional_minor > 0),
  functional_currency char(3) not null,
  rate_id text,
  posted_on date not null,
  month date not null generated always as (date_trunc('month', posted_on::timestamp)::date) stored,
  cause_kind text not null,
  cause_id text not null,
  customer_id text,
  contract_id text,
  obligation_id text,
  product_id text,
  invoice_id text,
  invoice_line_id text,
  period_start date,
  period_end date,
  tax_code text,
  refers_to text,
  primary key (entry_id, line_no)
);
create index on journal_line (invoice_id) where account = '1100';
create index on journal_line (obligation_id) where obligation_id is not null;
create index on journal_line (entity_id, month);

create table account_total (
  entity_id text not null,
  month date not null,
  account text not null,
  contract_id text not null,
  currency char(3) not null,
  debit_minor bigint not null,
  credit_minor bigint not null,
  primary key (entity_id, month, account, contract_id, currency)
);
comment on table account_total is 'Sums of journal_line, kept by the statement that posts; contract_id is empty where none applies.';

create table obligation (
  id text primary key,
  contract_id text not null references contract,
  customer_id text not null references customer,
  entity_id text not null references legal_entity,
  subscription_id text not null references subscription,
  pattern text not null check (pattern in ('ratable', 'delivered')),
  revenue text not null,
  total_minor bigint not null,
  currency char(3) not null,
  period_start date not null,
  period_end date not null,
  cause text not null
);
create index on obligation (entity_id, period_start);

create table month_close (
  entity_id text not null references legal_entity,
  month date not null,
  stage text not null,
  started_at timestamptz not null,
  approved_by text,
  approved_with text,
  approved_at timestamptz,
  approval_note text,
  erp text,
  erp_reference text,
  locked_at timestamptz,
  primary key (entity_id, month)
);

create table tie_out (
  entity_id text not null,
  month date not null,
  name text not null,
  left_label text not null,
  left_value numeric not null,
  right_label text not null,
  right_value numeric not null,
  unit text not null,
  items jsonb not null,
  primary key (entity_id, month, name, unit),
  foreign key (entity_id, month) references month_close
);

-- Rules

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, lower(tg_op)
    using errcode = 'PB001', hint = 'Post a correction; nothing is edited.';
end $$;

create trigger append_only before update or delete or truncate on journal_entry execute function refuse_change();
create trigger append_only before update or delete or truncate on journal_line execute function refuse_change();
create trigger append_only before update or delete or truncate on invoice execute function refuse_change();
create trigger append_only before update or delete or truncate on invoice_line execute function refuse_change();
create trigger append_only before update or delete or truncate on invoice_tax execute function refuse_change();
create trigger append_only before update or delete or truncate on invoice_number execute function refuse_change();
create trigger append_only before update or delete or truncate on credit_draw execute function refuse_change();
create trigger append_only before update or delete or truncate on subscription_terms execute function refuse_change();
create trigger append_only before update or delete or truncate on plan execute function refuse_change();
create trigger append_only before update or delete or truncate on usage_event execute function refuse_change();

-- One statement posts whole entries; this proves each balanced, for each legal entity and in both currencies, and none in
-- a month that is closed. The entry's reference to its legal entity waits for a close that is locking a month of it (FOR
-- UPDATE of the legal entity), FOR KEY SHARE for one that is locking this month; then the verdict is seen.
create function check_posting() returns trigger language plpgsql as $$
declare
  bad record;
begin
  select entry_id, currency, sum(case side when 'D' then amount_minor else -amount_minor end) as off into bad
    from posted group by entry_id, entity_id, currency
    having sum(case side when 'D' then amount_minor else -amount_minor end) <> 0 limit 1;
  if found then
    raise exception 'entry % is out of balance by % %', bad.entry_id, bad.off, bad.currency using errcode = 'PB002';
  end if;
  select entry_id, sum(case side when 'D' then functional_minor else -functional_minor end) as off into bad
    from posted group by entry_id, entity_id, functional_currency
    having sum(case side when 'D' then functional_minor else -functional_minor end) <> 0 limit 1;
  if found then
    raise exception 'entry % is out of balance by % in functional currency', bad.entry_id, bad.off using errcode = 'PB002';
  end if;

  insert into ledger_period (entity_id, month)
    select distinct entity_id, month from posted order by 1, 2 on conflict do nothing;
  perform 1 from ledger_period p
    where (p.entity_id, p.month) in (select distinct entity_id, month from posted)
    order by p.entity_id, p.month for key share;
  select p.entry_id, p.entity_id, p.month, l.state into bad
    from posted p join ledger_period l on l.entity_id = p.entity_id and l.month >= p.month
    where l.state = 'locked' or (l.state = 'closing' and l.month = p.month and p.cause_kind <> 'recognition')
    limit 1;
  if found then
    raise exception 'the books of % are % for %: entry % refused', bad.entity_id, bad.state, to_char(bad.month, 'YYYY-MM'), bad.entry_id
      using errcode = 'PB003', hint = 'Post it into the first open month, with a reference.';
  end if;

  insert into account_total as t (entity_id, month, account, contract_id, currency, debit_minor, credit_minor)
    select entity_id, month, account, coalesce(contract_id, ''), currency,
           coalesce(sum(amount_minor) filter (where side = 'D'), 0), coalesce(sum(amount_minor) filter (where side = 'C'), 0)
    from posted group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
    on conflict (entity_id, month, account, contract_id, currency) do update
      set debit_minor = t.debit_minor + excluded.debit_minor, credit_minor = t.credit_minor + excluded.credit_minor;
  return null;
end $$;

create trigger posting after insert on journal_line
  referencing new table as posted for each statement execute function check_posting();
