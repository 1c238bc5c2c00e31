-- A level is made of events before the window, too: since now they are in the set that is signed.
alter table usage_proof add column with_earlier boolean not null default false;
comment on column usage_proof.with_earlier is 'Whether the set has all events before the window too: of a meter that'
  ' carries over, signed since migration 0023.';
