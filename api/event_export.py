"""Stored events as files: CSV, lines of JSON and Apache Parquet, with the same columns.

Which events they hold is said in stored_events.py; `perennial events import` knows the columns (cli/event_rows.py).
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator

import msgspec
import pyarrow
import pyarrow.parquet

from api.bodies import MEBIBYTE
from models.event import Stored, Voided

Pages = Iterator[list[Stored]]

_MOMENT = pyarrow.timestamp("us", tz="UTC")
_COLUMNS = pyarrow.schema(
    [
        ("source", pyarrow.string()),
        ("id", pyarrow.string()),
        ("subject", pyarrow.string()),
        ("type", pyarrow.string()),
        ("time", _MOMENT),
        ("received_at", _MOMENT),
        ("day", pyarrow.date32()),
        ("data", pyarrow.string()),
        ("meters", pyarrow.list_(pyarrow.string())),
        ("void", pyarrow.bool_()),
        ("voided", pyarrow.string()),
    ]
)


def written(row: Stored) -> dict[str, object]:
    """By column; the event's data goes out as it came, digit by digit."""
    return {
        "source": row.source,
        "id": row.id,
        "subject": row.customer_id,
        "type": row.type,
        "time": row.occurred_at,
        "received_at": row.received_at,
        "day": row.day,
        "data": msgspec.Raw(row.data.encode()),
        "meters": row.meters,
        "void": row.voided is not None,
        "voided": row.voided and _why(row.voided),
    }


def _why(voided: Voided) -> dict[str, object]:
    instead = voided.instead and dict(zip(("source", "id"), voided.instead, strict=True))
    return {"reason": voided.reason, "by": voided.by, "at": voided.at, "instead": instead}


def _lines(pages: Pages) -> Iterator[bytes]:
    for rows in pages:
        yield b"".join(msgspec.json.encode(written(row)) + b"\n" for row in rows)


def _table(pages: Pages) -> Iterator[bytes]:
    """Cells as JSON has them, text without quotes; `data` and `voided` stay JSON, each in one column."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS.names)
    for rows in pages:
        writer.writerows([_cell(value) for value in written(row).values()] for row in rows)
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()
    yield out.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return " ".join(value) if isinstance(value, tuple) else msgspec.json.encode(value).decode().strip('"')


def _parquet(pages: Pages) -> Iterator[bytes]:
    """Apache Parquet, a group of rows a page; `data` and `voided` stay JSON. It goes to a file first, then out."""
    with tempfile.TemporaryFile() as file:
        with pyarrow.parquet.ParquetWriter(file, _COLUMNS, compression="zstd") as writer:
            for rows in pages:
                found = [{**written(row), "data": row.data, "voided": _in_json(row.voided)} for row in rows]
                writer.write_table(pyarrow.Table.from_pylist(found, schema=_COLUMNS))
        file.seek(0)
        while piece := file.read(MEBIBYTE):
            yield piece


def _in_json(voided: Voided | None) -> str | None:
    return msgspec.json.encode(_why(voided)).decode() if voided else None


FORMATS: dict[str, tuple[Callable[[Pages], Iterator[bytes]], str]] = {
    "csv": (_table, "text/csv"),
    "ndjson": (_lines, "application/x-ndjson"),
    "parquet": (_parquet, "application/vnd.apache.parquet"),
}
