"""What a row of a file means as a usage event: which column is what, and ids for rows that have none.

What Perennial itself has exported (api/event_export.py) goes in as it came: its other columns are no data of the event.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from perennial_client import Event, Json
from perennial_client.encoding import dumps

from billing.errors import Fault, Refused
from cli.event_files import Row, Rows, unreadable

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ENVELOPE = {"specversion", "datacontenttype", "dataschema"}
_ADDED = {"received_at", "day", "meters", "voided"}
EXPORTED = {"source", "id", "subject", "type", "time", "data", "void", *_ADDED}
"""The columns of an export, by which it is known."""
_WHERE_FROM = "Say where the usage comes from: --source, or --source-column."


class WrongRow(Exception):
    """A row that is no event. `field` is the column, empty if it is about the whole row."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what; all others go into `data`.

    Instead of a column of sources or types there may be one `source` or `type` for all rows. `source_column` is None if
    it is called so, and `id` if rows have none. `zone` is where times without a zone were written down. Numbers in
    columns of `text` stay text; of CSV, all others that look like a number are one.
    """

    source: str | None = None
    source_column: str | None = None
    id: str | None = None
    subject: str = "subject"
    type: str | None = None
    type_column: str = "type"
    time: str = "time"
    zone: ZoneInfo | None = None
    text: tuple[str, ...] = ()

    def fitted(self, rows: Rows) -> Columns:
        """With `id` if the file has it. Refused if the file has not the columns that are named."""
        if not rows.columns:
            return self
        fitted = replace(self, id=self.id or ("id" if "id" in rows.columns else None))
        if not (fitted.source or fitted.source_column or "source" in rows.columns):
            raise unreadable(rows.path, 1, f"has no column 'source', but {', '.join(rows.columns)}", _WHERE_FROM)
        wanted = {
            "--source-column": fitted.source_column,
            "--id-column": fitted.id,
            "--subject-column": fitted.subject,
            "--type-column": None if fitted.type else fitted.type_column,
            "--time-column": fitted.time,
        }
        missing = {option: name for option, name in wanted.items() if name and name not in rows.columns}
        if missing:
            names = ", ".join(rows.columns)
            faults = [Fault(f"{rows.path}:1", f"has no column {name!r}, but {names}") for name in missing.values()]
            remedy = f"Say which column it is: {', '.join(missing)}."
            if "--type-column" in missing:
                remedy += " If all rows are of one type, say --type."
            if rows.format == "csv" and len(rows.columns) == 1:
                remedy += " If the columns are not parted by commas, say --delimiter."
            raise Refused(f"{rows.path} cannot be imported.", faults=faults, remedy=remedy)
        return fitted


def event_of(row: Row, columns: Columns, rows: Rows) -> Event:
    """Raises WrongRow; Refused if the source or a time's zone is missing and none is given, for all rows may be so."""
    if row.wrong:
        raise WrongRow(row.wrong)
    values = dict(row.values)
    if set(rows.columns or values) == EXPORTED:
        values = _as_sent(values, columns)
    elif not (rows.columns or columns.source or columns.source_column or "source" in values):
        raise unreadable(rows.path, row.line, "says no source", _WHERE_FROM)
    event_id = _id(values, row, columns)
    source = columns.source or _word(values, columns.source_column or "source")
    subject = _word(values, columns.subject)
    kind = columns.type or _word(values, columns.type_column)
    if columns.time not in values:
        raise WrongRow("is missing", columns.time)
    time = _moment(values.pop(columns.time), columns, row, rows)
    return Event(source, event_id or _derived(source, row), subject, kind, time, _data(values, columns, rows))


def has_own_id(row: Row, columns: Columns) -> bool:
    return (columns.id or "id") in row.values


def _as_sent(values: Mapping[str, Json | date], columns: Columns) -> dict[str, Json | date]:
    """What the sender of an exported event said. Of CSV and Parquet, `data` is JSON in a text."""
    if values.get("void") in (True, "true"):
        raise WrongRow("was made void, and would count again where it is not known", "void")
    others = {"void", "source"} if columns.source else {"void"}
    sent = {name: value for name, value in values.items() if name not in _ADDED | others}
    if isinstance(data := sent.get("data"), str):
        try:
            sent["data"] = json.loads(data, parse_float=Decimal)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise WrongRow(f"is not JSON: {error}", "data") from error
    if not isinstance(sent.get("data"), Mapping):
        raise WrongRow("must be a JSON object, such as {...}", "data")
    return sent


def _id(values: dict[str, Json | date], row: Row, columns: Columns) -> str | None:
    """None if it has none, and needs none."""
    return _word(values, columns.id or "id") if columns.id or has_own_id(row, columns) else None


def _derived(source: str, row: Row) -> str:
    """The same for the same content at the same place, so that the file can be sent again."""
    try:
        content = dumps(row.values)  # type: ignore[arg-type]
    except RecursionError as error:
        raise WrongRow("is nested too deeply") from error
    digest = hashlib.sha256(f"{source}\0{row.number}\0{content}".encode()).hexdigest()
    return f"row-{row.number}-{digest[:32]}"


def _word(values: dict[str, Json | date], name: str) -> str:
    """Text, or a whole number as text; it is taken out of the values."""
    value = values.pop(name, None)
    if value is None or value == "":
        raise WrongRow("is missing", name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise WrongRow("must be text", name)
    return str(value)


def _moment(value: Json | date, columns: Columns, row: Row, rows: Rows) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise WrongRow("must be a time such as 2026-01-05T10:00:00Z", columns.time) from error
    if not isinstance(value, datetime):
        raise WrongRow("must be a time such as 2026-01-05T10:00:00Z", columns.time)
    if value.tzinfo is not None:
        return value
    if columns.zone is None:
        reason = f"{columns.time}: {value.isoformat()} says no time zone"
        raise unreadable(rows.path, row.line, reason, "Say where it was written down: --time-zone Europe/Berlin.")
    return _local(value, columns.zone, columns.time)


def _local(value: datetime, zone: ZoneInfo, name: str) -> datetime:
    """A moment on the clocks of a zone; of an hour that comes twice, the first."""
    moment = value.replace(tzinfo=zone)
    try:
        existing = moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == value
    except OverflowError as error:
        raise WrongRow("is no time that a clock shows", name) from error
    if not existing:
        raise WrongRow(f"did not exist in {zone.key}: the clocks went forward over it", name)
    return moment


def _data(values: Mapping[str, Json | date], columns: Columns, rows: Rows) -> Mapping[str, Json]:
    """An object `data` and all other columns, side by side. What wraps a CloudEvent is left out."""
    inner = values.get("data")
    outer = {name: value for name, value in values.items() if name != "data"} if isinstance(inner, Mapping) else values
    if "specversion" in outer:
        outer = {name: value for name, value in outer.items() if name not in _ENVELOPE}
    data: dict[str, Json] = dict(inner) if isinstance(inner, Mapping) else {}
    for name, value in outer.items():
        if name in data:
            raise WrongRow("stands in `data` too", name)
        if isinstance(value, date):
            data[name] = value.isoformat()
        elif isinstance(value, str) and rows.format == "csv" and name not in columns.text:
            data[name] = _number_or_text(value, name)
        elif value is not None:
            data[name] = value
    return data


def _number_or_text(cell: str, name: str) -> Decimal | str:
    """Digits exactly as they stand; 007 is no number, and stays text."""
    if not _NUMBER.fullmatch(cell):
        return cell
    try:
        return Decimal(cell)
    except ArithmeticError as error:
        raise WrongRow("is a number of no sane size", name) from error
