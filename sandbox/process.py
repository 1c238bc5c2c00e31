"""Child processes of the sandbox: each in its own group, with a log, watched while it starts, and ended with us.

What the processes are is said in postgres.py, temporal.py and stack.py.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from sandbox import watchdog

LOG_LINES_SHOWN = 20
OUTPUT_KEPT = 64 * 1024
SERVER_PORTS = range(20000, 32768)
"""Where servers listen; `PERENNIAL_PORTS=20000-23999` gives a part of them, so that several houses on one host never
choose the same.
"""
_DICE = random.Random()
"""Seeded by the system: asking it for each of ten thousand ports takes longer than the rest of a start."""


class StartFailed(Exception):
    """A server did not come up, and trying again changes nothing. `log` holds the last lines that it wrote."""

    def __init__(self, name: str, reason: str, log: str = "") -> None:
        super().__init__(f"{name}: {reason}" + (f"\n{log}" if log else ""))
        self.name = name
        self.reason = reason
        self.log = log


class AlreadyRunning(StartFailed):
    """The folder is in use by a server that runs."""


class Child:
    """One process that we started. Its output goes to `log`, or to a file without a name if that is None.

    `account` is a (user id, group id) to run as, which only root can ask for. `stop_signal` asks it to stop in peace.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path | None,
        environment: Mapping[str, str],
        cwd: Path = Path("/"),
        account: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.stop_signal = stop_signal
        self._log = _open_log(log)
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._over = False
        self._last_output = ""
        try:
            self._process = _spawn(command, self._log, environment, cwd, account)
        except OSError as error:
            self._log.close()
            raise StartFailed(name, f"cannot run {command[0]}: {error.strerror}") from error
        self.birth = watchdog.birth(self.pid) or ""
        _WATCHDOG.watch(self.pid, self.birth, stop_signal)

    @property
    def pid(self) -> int:
        """Its process id, which is the id of its group too."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        if not self._over and self._process.poll() is not None:
            self._finish()
        return not self._over

    def exit_code(self) -> int | None:
        """As subprocess says it: negative for a signal, None while it runs."""
        return None if self.alive() else self._process.returncode

    def complete(self, seconds: float) -> None:
        """Wait for its end; StartFailed if that is not a good one within `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        if self.alive():
            self.kill()
            raise StartFailed(self.name, f"not done after {seconds:.0f} seconds", self.last_lines())
        if code := self.exit_code():
            raise StartFailed(self.name, f"ended with exit code {code}", self.last_lines())

    def stop(self, seconds: float = 10.0) -> None:
        """Ask it to stop, and kill it with its whole group when it has not within `seconds`."""
        if self.alive():
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to it and its whole group."""
        if not self._over:
            _kill_group(self.pid)
            self._process.wait()
            self._finish()

    def output(self) -> str:
        """The last 64 KiB of what it has written since its start."""
        if self._log.closed:
            return self._last_output
        start = max(self._log_start, os.fstat(self._log.fileno()).st_size - OUTPUT_KEPT)
        return os.pread(self._log.fileno(), OUTPUT_KEPT, start).decode(errors="replace")

    def last_lines(self, count: int = LOG_LINES_SHOWN) -> str:
        """The end of what it has written."""
        return "\n".join(self.output().splitlines()[-count:])

    def ready_url(self) -> str | None:
        """The address from the line `ready ADDRESS`, once it has written that."""
        for line in self.output().splitlines(keepends=True):
            if line.startswith("ready ") and line.endswith("\n"):
                return line.removeprefix("ready ").strip()
        return None

    def _finish(self) -> None:
        """It is reaped: end what it left behind in its group at once, before the number can be used again."""
        self._over = True
        _kill_group(self.pid)
        _WATCHDOG.forget(self.pid)
        self._last_output = self.output()
        self._log.close()


def wait_until(child: Child, ready: Callable[[], bool], seconds: float, others: Iterable[Child] = ()) -> None:
    """Return when `ready()` holds; StartFailed if `child` or one of the `others` dies or `seconds` pass before."""
    deadline = time.monotonic() + seconds
    watched = (child, *others)
    while not ready():
        for each in watched:
            if not each.alive():
                raise StartFailed(each.name, f"ended with exit code {each.exit_code()}", each.last_lines())
        if time.monotonic() > deadline:
            raise StartFailed(child.name, f"not ready after {seconds:.0f} seconds", child.last_lines())
        time.sleep(0.02)


def free_ports(count: int) -> tuple[int, ...]:
    """That many different TCP ports of the loopback that nobody listens on at the moment.

    They lie below those that systems hand out to outgoing connections: such a port would be taken between now and the
    moment at which its server listens.
    """
    ports = server_ports()
    found = tuple(itertools.islice(filter(port_is_free, _DICE.sample(ports, len(ports))), count))
    if len(found) < count:
        raise StartFailed("stack", f"no {count} free ports from {ports[0]} to {ports[-1]}")
    return found


def server_ports() -> range:
    """Where servers listen: SERVER_PORTS, or the part of them that PERENNIAL_PORTS gives."""
    said = os.environ.get("PERENNIAL_PORTS", "")
    if not said:
        return SERVER_PORTS
    first, dash, last = said.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65536):
        raise StartFailed("stack", f"PERENNIAL_PORTS={said} is not a range of ports such as 20000-23999")
    return range(int(first), int(last) + 1)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port of the loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class FolderLock:
    """One owner of a folder at a time. The kernel takes the lock back when the owner dies, so it is never stale."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is ours now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


class _Watchdog:
    """Our end of the pipe to `sandbox.watchdog`, which is started with the first child."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def watch(self, pid: int, birth: str, stop_signal: int) -> None:
        if birth:
            self._write(f"+ {pid} {birth} {stop_signal}\n")

    def forget(self, pid: int) -> None:
        self._write(f"- {pid}\n")

    def _write(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(watchdog.__file__))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    cwd="/",
                    start_new_session=True,
                )
                atexit.register(self._close, self._process)
            assert self._process.stdin
            self._process.stdin.write(line)
            self._process.stdin.flush()

    @staticmethod
    def _close(process: subprocess.Popen[str]) -> None:
        """An ordinary exit: let it end what is left now, and wait for that."""
        process.communicate()


_WATCHDOG = _Watchdog()


def _open_log(path: Path | None) -> IO[bytes]:
    if path is None:
        return tempfile.TemporaryFile()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0)


def _spawn(
    command: Sequence[str],
    log: IO[bytes],
    environment: Mapping[str, str],
    cwd: Path,
    account: tuple[int, int] | None,
) -> subprocess.Popen[bytes]:
    user, group = account or (None, None)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=cwd,
        user=user,
        group=group,
        extra_groups=None if account is None else (),
        process_group=0,
    )


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
