"""A month of stored events as a file, such as before its table is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from billing.errors import Fault, Refused
from cli.terminal import console, one_transaction
from models import event_month
from models.event_month import KeptEvent


def export_month(
    month: Annotated[str, typer.Argument(help="Such as 2026-01, in UTC.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Parquet; must not be there yet.", show_default=False)],
) -> None:
    """Write the events that lie in a month's table to a file, whether it was taken away or not.

    The file is there when all of it is. Nothing is changed in the database.
    """
    first = _first_day(month)
    if file.exists():
        raise Refused(f"{file} is there already.", remedy="Name another file, or remove this one.")
    fresh = file.with_name(f"{file.name}.part")
    with one_transaction() as session:
        events = _write(fresh, event_month.kept(session, first))
    fresh.replace(file)
    console.print(f"{events:,} events of {month} are in {file}.", soft_wrap=True, markup=False)


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError:
        fault = Fault("month", f"{month!r} is no month such as 2026-01")
        raise Refused("The month cannot be read.", faults=[fault], remedy="Write year and month.") from None


def _write(file: Path, pieces: Iterator[list[KeptEvent]]) -> int:
    """One group of rows for each piece; `data` stays JSON. How many events there were."""
    import pyarrow
    from pyarrow import parquet

    text, moment = pyarrow.string(), pyarrow.timestamp("us", tz="UTC")
    types = (text, text, text, text, moment, moment, pyarrow.date32(), text, pyarrow.list_(text), pyarrow.bool_())
    shape = pyarrow.schema(list(zip(KeptEvent._fields, types, strict=True)))
    events = 0
    with parquet.ParquetWriter(file, shape, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(pyarrow.table(list(map(list, zip(*piece, strict=True))), schema=shape))
            events += len(piece)
    return events
