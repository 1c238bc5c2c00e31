"""Ends the sandbox's servers when the process that started them is gone, however it went.

Run as a script beside that process and fed through a pipe: the pipe closes when its writer dies, be it by SIGKILL.
Standard library only, so that it is up in milliseconds. Who starts and feeds it is `sandbox.process`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

SECONDS_TO_END = 10.0


def birth(pid: int) -> str | None:
    """When the process `pid` was born, as an opaque word; None if there is none (a zombie counts as none).

    A pid together with its birth names one process for good; a pid alone is used again.
    """
    if sys.platform == "linux":
        return _birth_on_linux(pid)
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, born = told.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else "_".join(born.split())


def _birth_on_linux(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, born = fields[0], fields[19]
    return None if state in "ZX" else born


def end(processes: dict[int, tuple[str, int]], seconds: float = SECONDS_TO_END) -> None:
    """Ask every process (pid -> birth, signal) to stop, and kill the groups of those that have not within `seconds`."""
    for pid, (born, stop_signal) in processes.items():
        if birth(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
    deadline = time.monotonic() + seconds
    left = processes
    while left := {pid: named for pid, named in left.items() if birth(pid) == named[0]}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Read `+ pid birth signal` and `- pid` lines until the writer is gone, then end those that are left."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watched: dict[int, tuple[str, int]] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, born, stop_signal]:
                watched[int(pid)] = (born, int(stop_signal))
            case ["-", pid]:
                watched.pop(int(pid), None)
    end(watched)


if __name__ == "__main__":
    main()
