"""Files of usage read row by row: CSV, NDJSON and Parquet. What a row means as an event is not known here."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

from perennial_client import Json

from billing.errors import Fault, Refused
from cli.parquet_cells import cells_of, plain

if TYPE_CHECKING:
    import pyarrow

FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
MOST_MIB_OF_LINE = 32
"""An event that the API took may have 16 MiB, and CSV writes each quote in it twice."""
MOST_BYTES_OF_LINE = MOST_MIB_OF_LINE * 1024 * 1024
ROWS_OF_PARQUET = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 1, its line in the file (of Parquet its number again), and what stands in it.

    The values of CSV are text, empty ones left out. `wrong` says why it cannot be read; then there are no values, and
    `text` is the row as it stands. `read` is how much of the file is read with it, in the unit of `Rows.size`.
    """

    number: int
    line: int
    values: Mapping[str, Json | date]
    read: int
    wrong: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file. `columns` is empty if each row names its own; `size` is in bytes, of Parquet in rows."""

    path: Path
    format: str
    columns: tuple[str, ...]
    size: int
    rows: Iterator[Row]


@contextmanager
def open_rows(path: Path, format: str | None, delimiter: str) -> Iterator[Rows]:
    """The rows of `path`, read as they are asked for. Refused, with the line, where the file cannot be read on."""
    found = format or FORMATS.get(path.suffix.lower())
    if found not in FORMATS.values():
        remedy = "Name it .csv, .ndjson or .parquet, or say --format csv, ndjson or parquet."
        raise Refused(f"What kind of file {path} is, cannot be told from its name.", remedy=remedy)
    if len(delimiter) != 1:
        raise Refused("The delimiter must be one character.", faults=[Fault("--delimiter", f"is {delimiter!r}")])
    try:
        with path.open("rb") as file:
            if found == "csv":
                yield _csv(file, path, delimiter)
            elif found == "ndjson":
                yield Rows(path, found, (), path.stat().st_size, _ndjson(file, path))
            else:
                yield _parquet(file, path)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}.") from error


def unreadable(path: Path, line: int, reason: str, remedy: str) -> Refused:
    return Refused(f"{path} cannot be imported.", faults=[Fault(f"{path}:{line}", reason)], remedy=remedy)


class _Lines:
    """Lines of text, and how many bytes and lines were read; a line that never ends is refused before it is held."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self.line = self.read = 0

    def __iter__(self) -> Iterator[str]:
        for raw in self.raw():
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                reason = f"is not UTF-8: {error.reason} at byte {error.start}"
                raise unreadable(self._path, self.line, reason, "Save it as UTF-8, and run this again.") from error

    def raw(self) -> Iterator[bytes]:
        while raw := self._file.readline(MOST_BYTES_OF_LINE + 1):
            self.line += 1
            self.read += len(raw)
            if len(raw) > MOST_BYTES_OF_LINE:
                remedy = "Look whether it is the right file; --format says how it is written."
                raise unreadable(self._path, self.line, f"is a line longer than {MOST_MIB_OF_LINE} MiB", remedy)
            yield raw.removeprefix(b"\xef\xbb\xbf") if self.line == 1 else raw


def _csv(file: IO[bytes], path: Path, delimiter: str) -> Rows:
    """A header, then rows (RFC 4180)."""
    lines = _Lines(file, path)
    rows = _cells(lines, path, delimiter)
    columns = next(rows, None)
    if columns is None:
        raise unreadable(path, 1, "is empty", "The first line must name the columns, each once.")
    size = path.stat().st_size
    return Rows(path, "csv", _named_once(columns, path), size, _csv_rows(rows, columns, lines, delimiter))


def _named_once(columns: Sequence[str], path: Path) -> tuple[str, ...]:
    remedy = "Each column must have a name, and each another one."
    if "" in columns:
        raise unreadable(path, 1, f"column {columns.index('') + 1} has no name", remedy)
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise unreadable(path, 1, f"names {', '.join(twice)} more than once", remedy)
    return tuple(columns)


def _cells(lines: _Lines, path: Path, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(MOST_BYTES_OF_LINE)
    try:
        yield from csv.reader(lines, delimiter=delimiter, strict=True)
    except csv.Error as error:
        remedy = 'Texts with quotes, delimiters or line ends stand in "quotes", and quotes in them are doubled.'
        raise unreadable(path, lines.line, f"is not CSV: {error}", remedy) from error


def _csv_rows(rows: Iterator[list[str]], columns: list[str], lines: _Lines, delimiter: str) -> Iterator[Row]:
    number, first = 0, lines.line + 1
    for cells in rows:
        if cells:
            number += 1
            if len(cells) == len(columns):
                values = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
                yield Row(number, first, values, lines.read)
            else:
                wrong = f"has {len(cells)} cells, and the header has {len(columns)}"
                yield Row(number, first, {}, lines.read, wrong, delimiter.join(cells))
        first = lines.line + 1


def _ndjson(file: IO[bytes], path: Path) -> Iterator[Row]:
    """One JSON object a line; empty lines are left out."""
    lines = _Lines(file, path)
    number = 0
    for raw in lines.raw():
        if not raw.strip():
            continue
        number += 1
        try:
            values = json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
            wrong = "" if isinstance(values, dict) else "must be a JSON object, such as {...}"
        except (ValueError, ArithmeticError, RecursionError) as error:
            values, wrong = {}, f"is not JSON: {error}"
        text = raw.decode(errors="replace").rstrip("\r\n") if wrong else ""
        yield Row(number, lines.line, {} if wrong else values, lines.read, wrong, text)


def _no_number(name: str) -> Json:
    raise ValueError(f"{name} is no number")


def _parquet(file: IO[bytes], path: Path) -> Rows:
    import pyarrow
    from pyarrow import parquet

    try:
        found = parquet.ParquetFile(file, coerce_int96_timestamp_unit="us")
        columns = _named_once(found.schema_arrow.names, path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error
    return Rows(path, "parquet", columns, found.metadata.num_rows, _parquet_rows(found, path))


def _parquet_rows(found: pyarrow.parquet.ParquetFile, path: Path) -> Iterator[Row]:
    import pyarrow

    number = 0
    try:
        for batch in found.iter_batches(batch_size=ROWS_OF_PARQUET):
            columns = [cells_of(column) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                number += 1
                yield _parquet_row(number, dict(zip(batch.schema.names, cells, strict=True)))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(path, error) from error


def _parquet_row(number: int, cells: Mapping[str, object]) -> Row:
    values, wrong = {}, ""
    for name, cell in cells.items():
        try:
            if cell is not None:
                values[name] = plain(cell)
        except ValueError as error:
            wrong = wrong or f"{name}: {error}"
    return Row(number, number, {} if wrong else values, number, wrong, str(dict(cells)) if wrong else "")


def _no_parquet(path: Path, error: Exception) -> Refused:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    remedy = "Write the file again; it may have been cut off. --format says how it is written."
    return Refused(f"{path} cannot be read as Parquet.", faults=[Fault(str(path), reason)], remedy=remedy)
