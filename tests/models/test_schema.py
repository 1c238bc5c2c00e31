"""The tables that SQLModel knows say the same as the migrated database, and migrating again changes nothing."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

import models
from models.migrations import migrate
from sandbox.postgres import Postgres

for module in pkgutil.iter_modules(models.__path__):
    importlib.import_module(f"models.{module.name}")

TABLES = sorted(SQLModel.metadata.tables)

# What a column of ours may be in PostgreSQL, by what SQLAlchemy calls it.
STORED_AS = {
    "VARCHAR": {"text", "bpchar", "pg_snapshot", "uuid"},
    "INTEGER": {"int2", "int4"},
    "BIGINT": {"int8", "xid8"},
    "BOOLEAN": {"bool"},
    "DATE": {"date"},
    "TIMESTAMP WITH TIME ZONE": {"timestamptz"},
    "NUMERIC": {"numeric"},
    "BYTEA": {"bytea"},
    "TEXT[]": {"_text"},
    "JSONB": {"jsonb"},
    "JSON": {"json"},
}


@pytest.fixture(scope="module")
def database(postgres: Postgres, template: str) -> Iterator[Connection[TupleRow]]:
    """A migrated database to be looked at."""
    url = postgres.create_database("schema", template=template)
    with psycopg.connect(url) as connection:
        yield connection
    postgres.drop_database("schema")


def test_every_table_has_its_class(database: Connection[TupleRow]) -> None:
    there = database.execute(
        "select relname from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition"
    )
    assert sorted(name for (name,) in there) == sorted([*TABLES, "alembic_version"])


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_the_same(name: str, database: Connection[TupleRow]) -> None:
    there = database.execute(
        "select column_name, is_nullable = 'YES', udt_name from information_schema.columns where table_name = %s",
        [name],
    ).fetchall()
    table = SQLModel.metadata.tables[name]
    assert {c.name: c.nullable for c in table.columns} == {column: nullable for column, nullable, _ in there}
    ours = {c.name: c.type.compile(dialect=postgresql.dialect()) for c in table.columns}  # type: ignore[no-untyped-call]
    assert not [column for column, _, stored in there if stored not in STORED_AS[ours[column]]]


@pytest.mark.parametrize("name", TABLES)
def test_keys_and_references_are_the_same(name: str, database: Connection[TupleRow]) -> None:
    there = database.execute(
        "select c.contype::text, a.attname, c.confrelid::regclass::text from pg_constraint c,"
        " unnest(c.conkey) with ordinality k (no, o) join pg_attribute a on a.attnum = k.no"
        " where c.conrelid = %s::regclass and a.attrelid = c.conrelid and c.contype in ('p', 'f') order by c.oid, k.o",
        [name],
    ).fetchall()
    table = SQLModel.metadata.tables[name]
    # What makes an event unique is kept in a table of its own, for events themselves can be taken away by the month.
    assert name == "usage_event" or [c.name for c in table.primary_key] == [
        column for kind, column, _ in there if kind == "p"
    ]
    ours = {(c.name, f.column.table.name) for c in table.columns for f in c.foreign_keys}
    assert ours <= {(column, target) for kind, column, target in there if kind == "f"}


def everything(url: str) -> list[TupleRow]:
    """Every column, constraint, index, trigger and function of the database."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select 'column', table_name || '.' || column_name, concat(data_type, is_nullable, column_default)"
            " from information_schema.columns where table_schema = 'public'"
            " union all select 'constraint', conname, pg_get_constraintdef(oid) from pg_constraint"
            "   where connamespace = 'public'::regnamespace"
            " union all select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'"
            " union all select 'trigger', tgrelid::regclass::text || tgname, pg_get_triggerdef(oid) from pg_trigger"
            "   where not tgisinternal"
            " union all select 'function', proname, prosrc from pg_proc where pronamespace = 'public'::regnamespace"
            " order by 1, 2, 3"
        ).fetchall()


def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = everything(database_url)
    assert {kind for kind, *_ in before} == {"column", "constraint", "index", "trigger", "function"}
    assert migrate(database_url) == "0023"
    assert everything(database_url) == before
