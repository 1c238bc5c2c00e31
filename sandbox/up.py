"""`perennial up` and `perennial down`: the stack in the foreground of a terminal, and its end from another one."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from sandbox.process import StartFailed
from sandbox.running import nothing_runs, stop_running
from sandbox.stack import Stack

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(folder: Path) -> int:
    """Run the stack until Ctrl-C, SIGTERM, or the end of one of its processes. The exit code: 0, or 1 if it failed."""
    console = Console(highlight=False)
    with one_interrupt():
        try:
            with console.status("Starting") as line:
                stack = Stack(folder, on_step=lambda name, detail: _say(console, line, name, detail))
                stack.start()
        except KeyboardInterrupt:
            console.print("Stopped while starting.")
            return 0
        except StartFailed as failure:
            _complain(console, failure)
            return 1
        return _stay(console, stack)


def down(folder: Path) -> int:
    """Stop the stack of this folder, whichever terminal it runs in. The exit code."""
    console = Console(highlight=False)
    try:
        console.print("Stopped." if stop_running(folder) else escape(nothing_runs(folder)), soft_wrap=True)
    except StartFailed as failure:
        _complain(console, failure)
        return 1
    return 0


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """The first of STOP_SIGNALS is a KeyboardInterrupt; those that follow must not cut the stopping short."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From here on nothing but SIGKILL interrupts; for the way down."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stay(console: Console, stack: Stack) -> int:
    code = 0
    try:
        console.print(_addresses(stack))
        console.print("Running. Ctrl-C stops it; the data stays.")
        while not stack.dead():
            time.sleep(0.5)
        for child in stack.dead():
            reason = f"ended with exit code {child.exit_code()}"
            _complain(console, StartFailed(child.name, reason, child.last_lines()))
        code = 1
    except KeyboardInterrupt:
        pass
    finally:
        ignore_signals()
        stack.stop()
    console.print(
        f"\nStopped. The data stays in {escape(str(stack.folder))}; the next start goes on from there.", soft_wrap=True
    )
    return code


def _addresses(stack: Stack) -> Table:
    at = stack.addresses
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("API", f"{at.api_url}  (documentation at /docs)"),
        ("Console", f"{at.api_url}/console  (any name; the password is a key with the scope read)"),
        ("Temporal UI", at.temporal_ui_url),
        ("Temporal", at.temporal_address),
        ("PostgreSQL", at.database_url.rpartition("@")[2]),
        ("Stripe sandbox", at.stripe_url),
        ("Salesforce sandbox", at.salesforce_url),
        ("Logs", str(stack.folder / "logs")),
        ("Passwords", f"{stack.folder / 'stack.json'}  (readable by you only)"),
    ):
        if value:
            table.add_row(name, escape(value))
    return table


def _say(console: Console, line: Status, name: str, detail: str) -> None:
    if detail == "starting":
        line.update(f"Starting {escape(name)}")
    else:
        console.print(f"{escape(name):<12} {escape(detail)}", soft_wrap=True)


def _complain(console: Console, failure: StartFailed) -> None:
    console.print(f"[bold red]{escape(failure.name)}[/]: {escape(failure.reason)}", soft_wrap=True)
    if failure.log:
        console.print(escape(failure.log), style="dim", soft_wrap=True)
