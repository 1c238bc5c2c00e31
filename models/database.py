"""The connection to PostgreSQL: sessions for single rows, cursors on the same transaction for sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple, cast

import msgspec
import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

FEW = 200
"""Fewer events are entered by a statement that is prepared once. COPY costs more to begin, and less for each."""
SECONDS_TRUSTED = 1.0
"""For so long after its last transaction a connection is taken to live. If PostgreSQL was restarted meanwhile, the next
one fails, as those that were under way do."""

# A process that vanishes must not hold a root's lock for long, nor a server that does those who wait for its answer.
_STEADY = {
    "options": "-c idle_in_transaction_session_timeout=60s",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def open_engine(url: str, pool: int, *, name: str = "perennial") -> Engine:
    """At most `pool` connections to `postgresql://...`; statements see READ COMMITTED, as the locks expect.

    Whoever needs one more waits for half a minute until one is free, and then fails.
    PostgreSQL shows its `name` beside what it runs (`application_name`), unless the URL or PGAPPNAME gives another.
    """
    plain = url.replace("postgres://", "postgresql://", 1)
    url = plain.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(
        url, pool_size=pool, max_overflow=0, connect_args=_STEADY | {"fallback_application_name": name}
    )
    _ask_after_a_rest(engine)
    return engine


def _ask_after_a_rest(engine: Engine) -> None:
    """A connection that nobody used for a while is asked whether it still lives; if not, all that are as old are left.

    `pool_pre_ping` asks before each transaction, which is as long again as a short statement.
    """

    @event.listens_for(engine, "checkin")
    def rests(_: object, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = monotonic()

    @event.listens_for(engine, "checkout")
    def wakes(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        if monotonic() - record.info.get("rests_since", monotonic()) < SECONDS_TRUSTED:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any error."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def snapshot(engine: Engine) -> Iterator[Session]:
    """One transaction whose statements all see the same moment. A rival's change of a row that it changes fails it."""
    with transaction(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        yield session


def take_time(session: Session) -> None:
    """Until the commit it may compute for as long as it has to between statements. Only for what holds up nobody."""
    cursor(session).execute("set local idle_in_transaction_session_timeout = 0")


def connection(session: Session) -> psycopg.Connection[TupleRow]:
    """The session's own connection, with what the session holds written to it first: SQL sees it all."""
    session.flush()
    within, raw = session.info.get(_DRIVER, (None, None))
    if within is None or not within.is_active or within is not _innermost(session):
        raw = session.connection().connection.driver_connection
        session.info[_DRIVER] = _innermost(session), raw
    assert isinstance(raw, psycopg.Connection)
    return raw


_DRIVER = "driver"
"""In a session's `info`, the driver's connection and within which transaction or savepoint it was asked for: when that
began, or when a savepoint in it had ended.
"""


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def cursor(session: Session) -> psycopg.Cursor[TupleRow]:
    return connection(session).cursor()


def columns(rows: Iterable[Sequence[object]], width: int) -> list[str]:
    """Rows as one array literal for each of their columns, for `unnest`.

    The driver can write lists by itself, but takes four times as long, which shows where thousands are stored at once.
    """
    return array_literals(zip(*rows, strict=True)) or ["{}"] * width


def array_literals(columns: Iterable[Sequence[object]]) -> list[str]:
    """One for each column."""
    return [f"{{{_elements(column)}}}" for column in columns]


def _elements(column: Sequence[object]) -> str:
    """What is no text needs no quotes. Texts are quoted all at once, parted by what none of them may hold."""
    kinds = set(map(type, column))
    if kinds == {datetime}:
        return ",".join(all_written([in_utc(moment) for moment in cast(Sequence[datetime], column)]))
    are_texts = {issubclass(kind, str) for kind in kinds}
    if are_texts == {False}:
        return ",".join(map(str, column))
    if len(are_texts) > 1:
        return ",".join(_elements([one]) for one in column)
    quoted = _joined(cast(Sequence[str], column)).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'"{quoted}"'


def _joined(column: Sequence[str]) -> str:
    """Texts as one, to be looked through at once; NUL parts them, as it stands in none that PostgreSQL keeps."""
    joined = "\0".join(column)
    if joined.count("\0") > len(column) - 1:
        raise ValueError("PostgreSQL keeps no text that holds the character NUL.")
    return joined


def in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def all_written(moments: Sequence[datetime]) -> list[str]:
    """Moments in UTC as PostgreSQL reads them; `isoformat`, which the driver uses, takes far longer."""
    return _JSON.encode_lines(moments).decode().replace('"', "").split("\n")[:-1]


_JSON = msgspec.json.Encoder()


class Part(NamedTuple):
    """A statement that changes rows, and its values."""

    sql: str
    values: Sequence[object]


def execute_together(session: Session, parts: Sequence[Part], **given: Part) -> int:
    """Several as one, of which no two change the same row, and which may select from what is `given` by its name. To
    send and answer a statement takes a quarter of a millisecond of both sides, whatever it does.

    Returns how many rows the last one changed.
    """
    *others, last = parts
    named = given | {f"part_{no}": part for no, part in enumerate(others)}
    before = ", ".join(f"{name} as ({part.sql})" for name, part in named.items())
    done = cursor(session).execute(
        f"{f'with {before} ' if before else ''}{last.sql}",
        [value for part in (*named.values(), last) for value in part.values],
    )
    return done.rowcount


def copy_rows(session: Session, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Many rows into one table by a single COPY."""
    if not rows:
        return
    with cursor(session) as cur, cur.copy(f"copy {table} ({', '.join(columns)}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def copy_texts(session: Session, table: str, columns: Mapping[str, Sequence[str]]) -> None:
    """The same of columns by name, of texts of which none is null: for a quarter of what the driver takes for a row."""
    lines = map("\t".join, zip(*map(_escaped, columns.values()), strict=True))
    with cursor(session) as cur, cur.copy(f"copy {table} ({', '.join(columns)}) from stdin") as copy:
        copy.write("\n".join(lines) + "\n")


def _escaped(column: Sequence[str]) -> Sequence[str]:
    """As COPY reads it. Hardly any text needs it, so they are looked through all at once."""
    joined = _joined(column)
    if not any(character in joined for character in "\\\t\n\r"):
        return column
    return joined.translate(_IN_COPY).split("\0")


_IN_COPY = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
