-- What becomes of usage that comes after its window was billed.

alter table meter
  add column late jsonb not null default '{"kind": "next_invoice"}'
    check (late ->> 'kind' in ('next_invoice', 'credit_and_rebill', 'ignore_below', 'hold'));
comment on column meter.late is 'What becomes of usage that comes after its window was billed.';

create table held_usage (
  id text primary key,
  subscription_id text not null references subscription,
  item text not null,
  period_start date not null,
  period_end date not null,
  quantity numeric not null,
  net_minor bigint not null,
  currency char(3) not null,
  line jsonb not null,
  task_id text not null unique references task,
  asked_at timestamptz not null,
  decision text check (decision in ('bill', 'waive')),
  decided_at timestamptz,
  pending_id text unique references pending_item,
  check ((decision is null) = (decided_at is null)),
  check ((decision is not distinct from 'bill') = (pending_id is not null))
);
create index on held_usage (subscription_id) where pending_id is null;
comment on table held_usage is 'Late usage about which a person was asked, each question with the difference that was shown.';
comment on column held_usage.line is 'The late line that is billed if the answer is so.';

-- What was asked stays as it was shown, and what was decided stays decided.
create trigger append_only before delete or truncate on held_usage execute function refuse_change();
create trigger shown before update of id, subscription_id, item, period_start, period_end, quantity, net_minor, currency, line,
  task_id, asked_at on held_usage execute function refuse_change();
create trigger decided before update on held_usage
  for each row when (old.decision is not null) execute function refuse_change();
