-- What a bill has seen is told by numbers of transactions, which begin anew on another server (models/home.py).

create table database_home (
  one_row boolean primary key default true check (one_row),
  server bigint not null
);
comment on table database_home is 'The server whose numbers of transactions are those of this database.';
comment on column database_home.server is 'The system identifier that PostgreSQL gave it when its data folder was made.';

insert into database_home (server) select system_identifier from pg_control_system();
