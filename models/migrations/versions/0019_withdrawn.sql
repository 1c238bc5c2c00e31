-- An amendment that has not taken effect can be withdrawn.

alter table amendment add column withdrawn_at timestamptz;
comment on column amendment.withdrawn_at is 'When it was withdrawn, before it took effect.';
