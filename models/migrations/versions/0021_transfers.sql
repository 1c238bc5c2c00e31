-- Invoices are paid by bank transfer too.

create table bank_transfer (
  id text primary key,
  invoice_id text not null references invoice,
  amount_minor bigint not null check (amount_minor <> 0),
  currency char(3) not null,
  received_on date not null,
  reference text not null,
  recorded_at timestamptz not null,
  by_key text not null
);
comment on table bank_transfer is 'Money that came to a bank account for an invoice, or went back (less than 0); received_on is the value date.';
create index on bank_transfer (invoice_id);
create trigger append_only before update or delete or truncate on bank_transfer execute function refuse_change();
