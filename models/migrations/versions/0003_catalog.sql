-- The catalog: products, features, coupons, overrides, when a plan is sold, and what terms have besides the plan.
-- Each entry is kept in versions that never change; the newest one counts. What was sold names or holds its own.

create table product (
  product_id text not null,
  version int not null check (version > 0),
  content jsonb not null,
  published_at timestamptz not null,
  primary key (product_id, version)
);

create table feature (
  feature_id text not null,
  version int not null check (version > 0),
  content jsonb not null,
  published_at timestamptz not null,
  primary key (feature_id, version)
);

create table coupon (
  coupon_id text not null,
  version int not null check (version > 0),
  content jsonb not null,
  published_at timestamptz not null,
  primary key (coupon_id, version)
);

create table customer_override (
  override_id text not null,
  version int not null check (version > 0),
  customer_id text not null references customer,
  content jsonb not null,
  published_at timestamptz not null,
  primary key (override_id, version)
);
create index on customer_override (customer_id);

create table plan_sale (
  plan_id text not null,
  version int not null,
  no int not null check (no > 0),
  sold_from date,
  cause text not null,
  decided_at timestamptz not null,
  primary key (plan_id, version, no),
  foreign key (plan_id, version) references plan (plan_id, version)
);
comment on table plan_sale is 'From decided_at on, the version is sold to new customers from that day, or not at all (null); the last row counts.';

-- The day on which it was published in the zone where days begin last.
insert into plan_sale (plan_id, version, no, sold_from, cause, decided_at)
  select plan_id, version, 1, (published_at at time zone 'UTC' - interval '12 hours')::date, 'published', published_at
  from plan;

alter table subscription_terms add column extras jsonb not null default '{}';
comment on column subscription_terms.extras is 'Add-ons with their versions, the customer''s override and redeemed coupons, as they were when sold.';

alter table amendment add column extras jsonb;
comment on column amendment.extras is 'Add-ons that replace the former ones, and coupons that come on top; null: as they were.';

create table coupon_redemption (
  coupon_id text not null,
  subscription_id text not null references subscription,
  redeemed_on date not null,
  cause text not null,
  redeemed_at timestamptz not null,
  primary key (coupon_id, subscription_id)
);

create trigger append_only before update or delete or truncate on product execute function refuse_change();
create trigger append_only before update or delete or truncate on feature execute function refuse_change();
create trigger append_only before update or delete or truncate on coupon execute function refuse_change();
create trigger append_only before update or delete or truncate on customer_override execute function refuse_change();
create trigger append_only before update or delete or truncate on plan_sale execute function refuse_change();
create trigger append_only before update or delete or truncate on coupon_redemption execute function refuse_change();
