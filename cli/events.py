"""Usage from files: CSV, NDJSON and Parquet through the API's door for events, like everybody's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import httpx
import typer
from perennial_client import Event, Json, Perennial, ProblemError, Receipt, Retries
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from billing.errors import Fault, Refused
from billing.period import zone
from cli.event_files import Row, Rows, open_rows
from cli.event_rows import Columns, WrongRow, event_of, has_own_id
from cli.event_state import OUTCOMES, ImportState, Outcome, Progress
from cli.terminal import complaints, console

verbs = typer.Typer(help="Usage events.", no_args_is_help=True)

ROWS_AT_ONCE = 2000
PATIENCE = Retries(attempts=12, first=0.2, longest=30.0)
"""For a server that is started again: about two minutes."""
MOST_SHOWN = 10
REFUSED, SOME_REFUSED = 2, 1


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A row that was not taken in."""

    row: Row
    outcome: str
    reason: str
    field: str


@verbs.command("import")
def import_events(
    file: Annotated[Path, typer.Argument(help="CSV with a header, NDJSON, or Parquet.", show_default=False)],
    source: Annotated[
        str | None, typer.Option(help="The source of all rows; with the id it makes an event one. Else `source`.")
    ] = None,
    source_column: Annotated[str | None, typer.Option(help="Instead of --source.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Else `id`, if there is one; else ids are derived.")] = None,
    subject_column: Annotated[str, typer.Option(help="The customer, by id or alias.")] = "subject",
    type: Annotated[str | None, typer.Option(help="The type of all rows, instead of a column.")] = None,
    type_column: Annotated[str, typer.Option()] = "type",
    time_column: Annotated[str, typer.Option()] = "time",
    time_zone: Annotated[str | None, typer.Option(help="Of times that say none, such as Europe/Berlin.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A column of CSV whose numbers are text; repeat it.")] = None,
    format: Annotated[str | None, typer.Option(help="csv, ndjson or parquet, if the name does not say it.")] = None,
    delimiter: Annotated[str, typer.Option(help="Between the columns of CSV.")] = ",",
    url: Annotated[str, typer.Option(envvar="PERENNIAL_URL", help="Of the API.")] = "http://127.0.0.1:8080",
    api_key: Annotated[str | None, typer.Option(envvar="PERENNIAL_API_KEY", help="With the scope ingest.")] = None,
    state: Annotated[Path | None, typer.Option(help="Remembers how far it got; else FILE.import.json.")] = None,
    refused: Annotated[Path | None, typer.Option(help="Takes rows not taken in; else FILE.refused.ndjson.")] = None,
    whatever_time: Annotated[
        bool, typer.Option("--whatever-time", help="The times are meant, however far back or ahead they lie.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="From the first row, whatever was sent before.")] = False,
) -> None:
    """Send the rows of a file as usage events. Run it again after whatever stopped it: nothing counts twice.

    All columns but those named are the event's data. An id that is derived follows from source, row number and content.
    Exit code 0: all rows are taken in. 1: some were refused. 2: it could not be done, or not to the end.
    """
    if not (key := (api_key or "").strip()):
        remedy = "Set PERENNIAL_API_KEY. `perennial keys create import --scopes ingest` makes one."
        raise Refused("There is no API key.", remedy=remedy)
    if source is not None and source_column is not None:
        raise Refused("Say where the usage comes from.", remedy="Either --source or --source-column.")
    columns = Columns(
        source=source,
        source_column=source_column,
        id=id_column,
        subject=subject_column,
        type=type,
        type_column=type_column,
        time=time_column,
        zone=zone(time_zone) if time_zone else None,
        text=tuple(sorted(text or ())),
    )
    memory = ImportState(state or _beside(file, ".import.json"), refused or _beside(file, ".refused.ndjson"))
    with open_rows(file, format, delimiter) as rows:
        how = hashlib.sha256(repr((columns, rows.format, delimiter, url)).encode()).hexdigest()
        done = memory.begin(file, how, restart=restart)
        with _connected(url, key, whatever_time) as send:
            fitted, before = columns.fitted(rows), done.finished
            done, shown = _Import(rows, fitted, memory, send).run(done)
    if before:
        again = f"{escape(str(file))} is as it was when all of it was sent, so nothing is sent now."
        console.print(f"{again} What became of it then:", soft_wrap=True)
    _report(file, done, shown, memory.refused)
    if done.refused:
        raise typer.Exit(SOME_REFUSED)


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


@contextmanager
def _connected(url: str, api_key: str, whatever_time: bool) -> Iterator[Callable[[Sequence[Event]], Receipt]]:
    """What sends events; whatever keeps it from doing so is refused in words."""
    again = "Run the same command again: it goes on where it stopped, and nothing counts twice."
    try:
        with Perennial(url, api_key, retries=PATIENCE, gzip_above=64 * 1024) as perennial:
            yield lambda events: _sent(perennial, events, whatever_time)
    except ProblemError as problem:
        faults = [Fault(error.field, error.reason) for error in problem.errors]
        reason = f"{url} refused: {problem.status} {problem.title}. {problem.detail}".strip()
        raise Refused(reason, code=problem.code, faults=faults, remedy=f"{problem.remedy} {again}".strip()) from problem
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        remedy = f"PERENNIAL_URL or --url says where it is. {again}"
        raise Refused(f"{url} cannot be reached: {error}.", remedy=remedy) from error


def _sent(perennial: Perennial, events: Sequence[Event], whatever_time: bool) -> Receipt:
    try:
        return perennial.events.send(events, batch=ROWS_AT_ONCE, whatever_time=whatever_time)
    except ValueError as error:
        remedy = "PERENNIAL_URL or --url says where Perennial is."
        raise Refused(f"Something answers, but not as Perennial does: {error}.", remedy=remedy) from error


class _Import:
    """Rows of a file on their way, some thousand at a time: sent, then remembered."""

    def __init__(
        self, rows: Rows, columns: Columns, memory: ImportState, send: Callable[[Sequence[Event]], Receipt]
    ) -> None:
        self._rows, self._columns, self._memory, self._send = rows, columns, memory, send
        self._shown: list[_Refusal] = []

    def run(self, done: Progress) -> tuple[Progress, Sequence[_Refusal]]:
        """To the end of the file; gives also the first rows that were refused now."""
        if done.finished:
            return done, ()
        waiting = (row for row in self._rows.rows if row.number > done.rows)
        with _bar() as bar:
            task = bar.add_task(self._rows.path.name, total=self._rows.size, rows=done.rows)
            while some := list(islice(waiting, ROWS_AT_ONCE)):
                done = self._take(some, done)
                bar.update(task, completed=some[-1].read, rows=done.rows)
        return self._memory.advance(done, replace(done, finished=True), ()), self._shown

    def _take(self, some: Sequence[Row], done: Progress) -> Progress:
        events: list[Event] = []
        rows: dict[int, Row] = {}
        refusals: list[_Refusal] = []
        for row in some:
            try:
                event = event_of(row, self._columns, self._rows)
            except WrongRow as wrong:
                refusals.append(_Refusal(row, "invalid", wrong.reason, wrong.field))
            else:
                events.append(event)
                rows[id(event)] = row
        receipt = self._send(events)
        refusals += [_Refusal(rows[id(one.event)], one.outcome, one.reason, one.field) for one in receipt.refused]
        refusals.sort(key=lambda refusal: refusal.row.number)
        self._shown += refusals[: MOST_SHOWN - len(self._shown)]
        told = {name: getattr(receipt, name) for name in OUTCOMES}
        told["invalid"] += len(some) - len(events)
        after = replace(
            done,
            rows=some[-1].number,
            counts={name: done.count(name) + told[name] for name in OUTCOMES},
            derived=done.derived or not all(has_own_id(row, self._columns) for row in rows.values()),
        )
        return self._memory.advance(done, after, map(_written, refusals))


def _written(refusal: _Refusal) -> dict[str, Json]:
    row = refusal.row
    told: dict[str, Json] = {"line": row.line, "outcome": refusal.outcome, "reason": refusal.reason}
    if refusal.field:
        told["field"] = refusal.field
    told["row"] = row.text if row.wrong else row.values  # type: ignore[assignment]
    return told


def _bar() -> Bar:
    """Only on a terminal."""
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=complaints,
        disable=not complaints.is_terminal,
    )


def _report(file: Path, done: Progress, shown: Sequence[_Refusal], refused: Path) -> None:
    """What became of the rows, in all runs together; and the first that this run could not send."""
    words: dict[Outcome, str] = {
        "accepted": "accepted",
        "duplicate": "known already",
        "quarantined": "in quarantine",
        "conflict": "in conflict with what came under their id before",
        "invalid": "invalid",
    }
    told = [f"{done.count(name):,} {said}" for name, said in words.items() if done.count(name) or name == "accepted"]
    console.print(f"{_many(done.rows)}: {', '.join(told)}.", soft_wrap=True)
    if done.count("quarantined"):
        console.print(
            "GET /v1/quarantine says why they wait. POST /v1/quarantine/replay sends them again; with whatever_time if"
            " their times are meant, as they are where a file is imported with --whatever-time.",
            soft_wrap=True,
        )
    for one in shown:
        where = f"{one.field}: " if one.field else ""
        complaints.print(escape(f"  {file}:{one.row.line}: {where}{one.reason}"), soft_wrap=True)
    if done.refused:
        single = done.refused == 1
        were, them = ("was", "it") if single else ("were", "them")
        said = f"{_many(done.refused)} {were} refused; {refused} has {them} with the reason{'' if single else 's'}."
        way = f"Correct {them} in {file} and run it again."
        if done.derived:
            where = "it stands" if single else "they stand"
            way = (
                f"Correct {them} in {file} where {where}, and run it again with --restart: rows that were taken in, and"
                " are at their places still, do not count twice."
            )
        complaints.print(escape(f"{said} {way}"), soft_wrap=True)


def _many(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"
