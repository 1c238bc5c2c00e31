-- What waits in quarantine and shall never count is discarded: kept whole, with who said so, when and why.

alter table usage_quarantine
  add column discarded_at timestamptz,
  add column discarded_by text,
  add column discarded_because text,
  add constraint usage_quarantine_discarded_check
    check (num_nulls(discarded_at, discarded_by, discarded_because) in (0, 3)),
  add constraint usage_quarantine_one_end_check check (replayed_at is null or discarded_at is null);
comment on column usage_quarantine.discarded_by is 'The key that said so.';

drop index usage_quarantine_waiting;
create index usage_quarantine_waiting on usage_quarantine (received_at, source, id)
  where replayed_at is null and discarded_at is null;
create index usage_quarantine_discarded on usage_quarantine (received_at, source, id) where discarded_at is not null;
create index usage_quarantine_discarded_key on usage_quarantine (usage_key_of(source, id))
  where discarded_at is not null;

create function keep_discarded() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and new.event::text = old.event::text
    and to_jsonb(new) - 'duplicates' - 'conflicts' = to_jsonb(old) - 'duplicates' - 'conflicts'
  then
    return new;
  end if;
  raise exception 'a discarded event stays as it is: % refused', lower(tg_op) using errcode = 'PB001';
end $$;
comment on function keep_discarded is 'What comes again under its name is counted still.';

create trigger discarded_stays before update or delete on usage_quarantine
  for each row when (old.discarded_at is not null) execute function keep_discarded();
