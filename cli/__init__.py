"""The same verbs for a terminal: set up, serve, look, and the embedded stack. A composition root, one file a noun."""

from __future__ import annotations

import os
import sys

import typer
from pydantic import ValidationError
from rich.markup import escape
from sqlalchemy.exc import OperationalError

from billing.errors import Fault, Refused
from cli import catalog, clocks, event_months, events, keys, price, server, stack
from cli.terminal import complaints
from models.reasons import of_pydantic
from settings import Settings

app = typer.Typer(
    help="Perennial: billing that you host yourself. Servers are named by DATABASE_URL and TEMPORAL_ADDRESS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for verb in (server.migrate, server.serve, server.worker):
    app.command()(verb)
app.add_typer(keys.verbs, name="keys")
app.add_typer(catalog.verbs, name="catalog")
events.verbs.command("export-month")(event_months.export_month)
app.add_typer(events.verbs, name="events")
app.command()(price.price)
app.command("next")(clocks.what_next)
app.command()(clocks.rebuild_clocks)
for verb in (stack.up, stack.down, stack.status, stack.demo):
    app.command()(verb)


def main() -> None:
    """The console script: a refusal is one line and what to do, not a traceback.

    The process leaves without taking the interpreter down: threads of Temporal's runtime may outlive a client, and
    would sometimes be caught by that in the middle of a call.
    """
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run() -> int:
    """The exit code of whatever verb was asked for."""
    try:
        app()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except OperationalError as error:
        complaints.print("[bold red]The database cannot be reached[/]; DATABASE_URL says where it is.", soft_wrap=True)
        complaints.print(escape(str(error.orig).strip().splitlines()[0]), soft_wrap=True)
        return 1
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        return _refused(_unfit_environment(error))
    except Refused as refusal:
        return _refused(refusal)
    return 0


def _refused(refusal: Refused) -> int:
    complaints.print(f"[bold red]Refused[/]: {escape(refusal.reason)}", soft_wrap=True)
    for fault in refusal.faults:
        complaints.print(f"  {escape(fault.field)}: {escape(fault.reason)}", soft_wrap=True)
    if refusal.remedy:
        complaints.print(escape(refusal.remedy), soft_wrap=True)
    return 2


def _unfit_environment(error: ValidationError) -> Refused:
    """Which variables do not fit and why; no values, as some are secret."""
    faults = [
        Fault(".".join(map(str, one["loc"])).upper(), of_pydantic(one)) for one in error.errors(include_input=False)
    ]
    return Refused(
        "The environment does not fit.",
        code="invalid_settings",
        faults=faults,
        remedy="Correct these variables and start again.",
    )
