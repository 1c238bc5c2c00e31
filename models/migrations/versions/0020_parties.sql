-- What documents print of seller and buyer, as it was when they were issued.

create table customer_version (
  customer_id text not null references customer,
  version int not null check (version > 0),
  name text not null,
  email text not null,
  country char(2) not null,
  address text not null,
  vat_id text,
  since timestamptz not null,
  by_key text,
  primary key (customer_id, version)
);
comment on table customer_version is 'What documents print of a customer; each change is a new version.';
insert into customer_version (customer_id, version, name, email, country, address, vat_id, since)
  select id, 1, name, email, country, address, vat_id, created_at from customer;
alter table customer add column version int not null default 1;
alter table customer alter column version drop default;

create table legal_entity_version (
  entity_id text not null references legal_entity,
  version int not null check (version > 0),
  name text not null,
  email text not null,
  country char(2) not null,
  address text not null,
  vat_id text,
  since timestamptz not null,
  by_key text,
  primary key (entity_id, version)
);
comment on table legal_entity_version is 'What documents print of a legal entity; each change is a new version.';
insert into legal_entity_version (entity_id, version, name, email, country, address, vat_id, since)
  select id, 1, name, email, country, address, vat_id, now() from legal_entity;
alter table legal_entity add column version int not null default 1;
alter table legal_entity alter column version drop default;

-- The version tells the party too, so the references to these replace those. By default it is the first, for workers of
-- the version before that still bill.
alter table invoice add column customer_version int not null default 1, add column entity_version int not null default 1;
alter table invoice
  add foreign key (customer_id, customer_version) references customer_version,
  add foreign key (entity_id, entity_version) references legal_entity_version,
  drop constraint invoice_customer_id_fkey,
  drop constraint invoice_entity_id_fkey;

create trigger append_only before update or delete or truncate on customer_version execute function refuse_change();
create trigger append_only before update or delete or truncate on legal_entity_version execute function refuse_change();
