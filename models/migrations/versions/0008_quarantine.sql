-- Events also wait for their time; and what comes under the name of one that waits is told apart and counted.

alter table usage_quarantine
  add column field text not null default 'subject' check (field in ('subject', 'time')),
  add column content bigint not null default 0,
  add column customer_id text,
  add column duplicates bigint not null default 0,
  add column conflicts bigint not null default 0;
alter table usage_quarantine alter column field drop default, alter column content drop default;
comment on column usage_quarantine.field is 'For which of its fields it waits.';
comment on column usage_quarantine.content is 'As usage_key.content: a digest of all but the name; 0 if it came before'
  ' digests were kept, and any content passes.';
comment on column usage_quarantine.customer_id is 'Whose it is, once that is known.';
comment on column usage_quarantine.duplicates is 'How often it came again while its customer was not known.';
comment on column usage_quarantine.conflicts is 'How often another content came under its name meanwhile.';

alter table usage_conflict alter column customer_id drop not null;
comment on column usage_conflict.customer_id is 'Null while an event waits under this name and its customer is not known.';
comment on table usage_conflict is 'Other contents that came under the source and id of an event that counts or waits.';
