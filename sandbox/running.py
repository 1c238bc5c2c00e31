"""What runs in a stack's folder, written down for other terminals: who started it, its processes and addresses.

How it is started is said in stack.py; here is how to ask about it, stop it and clear its folder from outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from sandbox import ports, postgres, watchdog
from sandbox.process import AlreadyRunning, Child, StartFailed

NAME = "stack"
RECORD = "stack.json"
LOCK = "stack.lock"
FOLDERS = ("logs", "temporal", "salesforce", "erp")
SECONDS_TO_STOP = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `birth` tells it from a later one with the same number."""

    name: str
    pid: int
    birth: str
    stop_signal: int = signal.SIGTERM

    @classmethod
    def of(cls, child: Child) -> Process:
        """The written form of a child."""
        return cls(child.name, child.pid, child.birth, child.stop_signal)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return watchdog.birth(self.pid) == self.birth


@dataclass(frozen=True, slots=True)
class Running:
    """A stack as it stands. `environment` is what its processes got, passwords included: the file is its owner's."""

    starter: Process
    started_at: datetime
    ready: bool
    addresses: dict[str, str]
    environment: dict[str, str]
    children: tuple[Process, ...]


def this_process() -> Process:
    """The one that asks."""
    return Process("starter", os.getpid(), watchdog.birth(os.getpid()) or "")


def write_down(folder: Path, running: Running) -> None:
    """Replace the record, as a whole or not at all."""
    fresh = folder / f"{RECORD}.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(running)))
    fresh.replace(folder / RECORD)


def read_record(folder: Path) -> Running | None:
    """The last record, of a stack that runs or not; None if there is none or it cannot be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def status(folder: Path) -> Running | None:
    """The stack that runs in this folder; None if none does."""
    running = read_record(folder)
    return running if running and running.starter.alive() else None


def nothing_runs(folder: Path) -> str:
    """What to tell who asks for the stack of a folder that runs none, but perhaps the demo."""
    demo = folder / "demo"
    if status(demo) is None:
        return f"Nothing runs in {folder}."
    return f"Nothing runs in {folder} but the demo: say --folder {demo} to see where, or to stop it."


def stop_running(folder: Path) -> bool:
    """Stop the stack that runs in this folder, from any terminal. Whether there was one (or something left of one).

    StartFailed if it belongs to another user or does not stop within a minute.
    """
    running = status(folder)
    if running is None:
        return end_leftovers(folder)
    try:
        os.kill(running.starter.pid, signal.SIGTERM)
    except PermissionError as error:
        raise StartFailed(NAME, f"process {running.starter.pid} belongs to another user") from error
    deadline = time.monotonic() + SECONDS_TO_STOP
    while running.starter.alive():
        if time.monotonic() > deadline:
            raise StartFailed(
                NAME, f"process {running.starter.pid} has not stopped after {SECONDS_TO_STOP:.0f} seconds"
            )
        time.sleep(0.05)
    end_leftovers(folder)
    return True


def end_leftovers(folder: Path) -> bool:
    """End what still runs of a stack whose starter is gone, and forget its record. Whether anything still ran."""
    record = read_record(folder)
    if record and record.starter.alive():
        return False
    left = [process for process in record.children if process.alive()] if record else []
    watchdog.end({process.pid: (process.birth, process.stop_signal) for process in left})
    (folder / RECORD).unlink(missing_ok=True)
    return bool(left)


def clear(folder: Path) -> None:
    """Remove everything that stacks have left in this folder, and nothing else. AlreadyRunning if one runs there."""
    if running := status(folder):
        raise AlreadyRunning(NAME, f"runs in {folder} (process {running.starter.pid}); stop it first")
    end_leftovers(folder)
    empty(folder)
    for name in (LOCK, ports.FILE):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def empty(folder: Path) -> None:
    """Remove a stopped stack's data and logs."""
    if (folder / "postgres").is_dir():
        postgres.remove_data(folder / "postgres")
        (folder / "postgres").rmdir()
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
