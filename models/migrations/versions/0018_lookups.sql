-- What is asked for by run, by time, by what it was bought on and by subject is found without reading all that there is.
-- Each may be there already: who cannot keep senders waiting makes them beforehand, one by one (docs/RUNBOOK.md).

create index if not exists invoice_run on invoice (run_id);
create index if not exists invoice_newest on invoice (issued_at, id);
create index if not exists credit_grant_invoice on credit_grant (invoice_id);
create index if not exists task_subject_kind on task (subject, kind);
create index if not exists agenda_soonest on agenda (due_at, subject) where done_at is null;
create index if not exists billing_lane_soonest on billing_lane (next_bill_at, subscription_id)
  where next_bill_at is not null;
create index if not exists journal_entry_page on journal_entry (entity_id, posted_on, id);
drop index if exists journal_entry_entity_id_posted_on_idx;
