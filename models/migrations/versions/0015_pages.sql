-- Lists that are read in pages find each page without sorting all that there is.

create index usage_quarantine_waiting on usage_quarantine (received_at, source, id) where replayed_at is null;
create index customer_alias_customer on customer_alias (customer_id);
