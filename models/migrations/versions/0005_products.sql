-- Invoice lines say which product they are of, and so do the journal's lines that they make.
alter table invoice_line add column product_id text;
