-- Roll-outs: who is moved to which version of a plan, when, and what it does to their bill.

create table rollout (
  id text primary key,
  entity_id text not null references legal_entity,
  plan_id text not null,
  to_plan_id text not null,
  to_version int not null,
  audience text not null check (audience in ('new', 'cohort', 'renewal', 'all')),
  on_day date not null,
  subscriptions text[] not null default '{}',
  customers text[] not null default '{}',
  share_percent numeric check (share_percent > 0 and share_percent <= 100),
  notice_days int not null check (notice_days >= 0),
  guard_percent numeric check (guard_percent >= 0),
  guard_action text check (guard_action in ('refuse', 'hold')),
  made_at timestamptz not null,
  made_with text not null,
  staged_through text not null default '',
  staged_at timestamptz,
  take_back_at timestamptz,
  take_back_with text,
  take_back_through text not null default '',
  taken_back_at timestamptz,
  foreign key (to_plan_id, to_version) references plan (plan_id, version),
  check ((guard_percent is null) = (guard_action is null)),
  check ((take_back_at is null) = (take_back_with is null)),
  check (taken_back_at is null or take_back_at is not null)
);
create index on rollout (entity_id, plan_id);
comment on column rollout.staged_through is 'The account root up to which members were made, in order of code points.';
comment on column rollout.take_back_through is 'The account root up to which members were taken back.';

create table rollout_member (
  rollout_id text not null references rollout,
  subscription_id text not null references subscription,
  root_id text not null references account_root,
  from_plan_id text not null,
  from_version int not null,
  move_on date,
  currency char(3) not null,
  before_minor bigint,
  after_minor bigint,
  why text not null,
  amendment_id text references amendment,
  back_amendment_id text references amendment,
  held_at timestamptz,
  refused_at timestamptz,
  planned_at timestamptz,
  skipped_at timestamptz,
  moved_at timestamptz,
  taken_back_at timestamptz,
  state text not null generated always as (
    case
      when taken_back_at is not null then 'taken_back'
      when moved_at is not null then 'moved'
      when skipped_at is not null then 'skipped'
      when planned_at is not null then 'planned'
      when refused_at is not null then 'refused'
      else 'held'
    end) stored,
  primary key (rollout_id, subscription_id),
  check (num_nonnulls(held_at, refused_at, planned_at, skipped_at) > 0),
  check ((planned_at is null) = (amendment_id is null))
);
create index on rollout_member (rollout_id, root_id);
create index on rollout_member (subscription_id);
create unique index on rollout_member (amendment_id);
comment on column rollout_member.state is 'The latest of its moments, by name.';
