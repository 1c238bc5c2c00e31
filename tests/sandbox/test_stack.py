"""The embedded servers are real, keep what they were given through a crash, and end with whoever started them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest
from temporalio.client import Client

from sandbox import running, watchdog
from sandbox.postgres import Postgres, remove_data
from sandbox.process import SERVER_PORTS, AlreadyRunning, Child, StartFailed, free_ports, wait_until
from sandbox.stack import Stack
from sandbox.temporal import Temporal


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres") / "server", keep=False) as server:
        yield server


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def holds_soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_postgres_is_version_18_and_speaks_utf8_and_utc(postgres: Postgres) -> None:
    assert 180_000 <= int(str(ask(postgres.url(), "SHOW server_version_num"))) < 190_000
    assert ask(postgres.url(), "SHOW server_encoding") == "UTF8"
    assert ask(postgres.url(), "SHOW timezone") == "UTC"


def test_a_template_is_copied_and_the_copies_are_apart(postgres: Postgres) -> None:
    template = postgres.create_database("template_with_a_row")
    with psycopg.connect(template) as connection:
        connection.execute("CREATE TABLE plan AS SELECT 'basic' AS name")
    first = postgres.create_database("first", "template_with_a_row")
    second = postgres.create_database("second", "template_with_a_row")
    with psycopg.connect(first) as connection:
        connection.execute("UPDATE plan SET name = 'enterprise'")
    assert ask(first, "SELECT name FROM plan") == "enterprise"
    assert ask(second, "SELECT name FROM plan") == "basic"

    assert postgres.has_database("first")
    postgres.drop_database("first")
    assert not postgres.has_database("first")
    postgres.drop_database("first")


def test_only_the_password_opens_the_door(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://perennial:guess@127.0.0.1:{postgres.port}/postgres")
    assert (postgres.folder / "password").stat().st_mode & 0o077 == 0
    assert ask(postgres.url(), "SHOW listen_addresses") == "127.0.0.1"
    assert ask(postgres.url(), "SHOW unix_socket_directories") == ""


def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    with Postgres(tmp_path / "server", keep=False) as server:
        with psycopg.connect(server.create_database("ledger")) as connection:
            connection.execute("CREATE TABLE entry AS SELECT 4200 AS amount_minor")
        before = server.child.pid
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url("ledger"))
        server.start()
        assert server.child.pid != before
        assert ask(server.url("ledger"), "SELECT amount_minor FROM entry") == 4200


def test_a_second_server_on_the_same_folder_is_refused(postgres: Postgres) -> None:
    with pytest.raises(AlreadyRunning, match=r"another one runs already in .*server"):
        Postgres(postgres.folder, keep=False).start()
    with pytest.raises(AlreadyRunning, match="runs already"):
        postgres.start()
    assert ask(postgres.url(), "SELECT 1") == 1


def test_a_private_parent_folder_stays_private_and_nothing_is_left_behind(tmp_path: Path) -> None:
    parent = tmp_path / "private"
    parent.mkdir(mode=0o700)
    folder = parent / "deep" / ("a" * 120) / "server"
    with Postgres(folder, keep=False) as server:
        assert ask(server.url(), "SELECT 1") == 1
        data = Path(str(ask(server.url(), "SHOW data_directory")))
        assert data.stat().st_mode & 0o077 == 0
    assert parent.stat().st_mode & 0o777 == 0o700
    assert not data.exists()
    assert [each.name for each in folder.iterdir()] == ["postgres.log"]


def test_kept_data_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with Postgres(folder) as server:
        server.create_database("kept")
    try:
        with Postgres(folder) as server:
            assert server.has_database("kept")
    finally:
        remove_data(folder)
    with Postgres(folder, keep=False) as server:
        assert not server.has_database("kept")


def test_temporal_answers_and_shows_its_pages(tmp_path: Path) -> None:
    with Temporal(search_attributes={"BillingEntity": "Keyword"}) as server:
        assert asyncio.run(_count_workflows(server.address)) == 0
        page = httpx.get(server.ui_url, follow_redirects=True, trust_env=False)
        assert page.status_code == 200
        assert "<html" in page.text


async def _count_workflows(address: str) -> int:
    client = await Client.connect(address)
    return (await client.count_workflows("BillingEntity = 'acme'")).count


def test_temporal_with_a_folder_can_be_killed_and_started_again(tmp_path: Path) -> None:
    with Temporal(tmp_path) as server:
        with pytest.raises(AlreadyRunning):
            Temporal(tmp_path).start()
        server.kill()
        server.start()
        assert httpx.get(server.ui_url, follow_redirects=True, trust_env=False).status_code == 200
    assert (tmp_path / "temporal.db").exists()


def python(program: str, log: Path | None = None) -> Child:
    return Child("example", [sys.executable, "-c", program], log=log, environment=os.environ)


def test_a_child_that_dies_at_its_start_is_named_with_its_last_words() -> None:
    child = python("print('no such table: plan'); raise SystemExit(3)")
    with pytest.raises(StartFailed, match="example: ended with exit code 3\nno such table: plan"):
        wait_until(child, lambda: child.ready_url() is not None, 30)


def test_a_child_ends_with_its_whole_group_even_if_it_does_not_listen(tmp_path: Path) -> None:
    child = python(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('ready', inner.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    wait_until(child, lambda: child.ready_url() is not None, 30)
    inner = int(child.ready_url() or "")
    assert watchdog.birth(inner)
    child.stop(seconds=0.1)
    assert child.exit_code() == -signal.SIGKILL
    assert holds_soon(lambda: watchdog.birth(inner) is None)


def test_servers_do_not_outlive_a_killed_starter(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from sandbox.postgres import Postgres\n"
        "server = Postgres(Path(sys.argv[1]), keep=False); server.start()\n"
        "print(server.child.pid, flush=True); time.sleep(600)\n"
    )
    folder = tmp_path / "server"
    starter = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    server = int(starter.stdout.readline())
    starter.stdout.close()
    assert watchdog.birth(server)
    starter.kill()
    starter.wait()
    with Postgres(folder, keep=False) as successor:  # waits for the dying one
        assert successor.child.pid != server
        assert watchdog.birth(server) is None


def record_of(starter: running.Process, *children: Child) -> running.Running:
    written = tuple(running.Process.of(child) for child in children)
    return running.Running(starter, datetime.now(UTC), True, {}, {"DATABASE_URL": "secret"}, written)


def test_the_record_of_a_stack_that_is_gone_is_cleaned_up_with_its_processes(tmp_path: Path) -> None:
    left_over = python("import time; time.sleep(600)")
    running.write_down(tmp_path, record_of(running.Process("starter", os.getpid(), "born at another time"), left_over))
    assert (tmp_path / "stack.json").stat().st_mode & 0o077 == 0
    assert running.status(tmp_path) is None
    assert running.stop_running(tmp_path)
    assert not left_over.alive()
    assert not (tmp_path / "stack.json").exists()
    assert not running.stop_running(tmp_path)


def test_a_process_that_only_has_the_same_number_is_left_alone(tmp_path: Path) -> None:
    innocent = python("import time; time.sleep(600)")
    stale = running.Process("worker", innocent.pid, "born at another time")
    gone = running.Process("starter", os.getpid(), "born at another time")
    running.write_down(tmp_path, running.Running(gone, datetime.now(UTC), True, {}, {}, (stale,)))
    assert not running.stop_running(tmp_path)
    assert innocent.alive()
    innocent.kill()


def test_a_folder_in_use_is_neither_cleared_nor_started_in(tmp_path: Path) -> None:
    stack, second = Stack(tmp_path), Stack(tmp_path)
    running.write_down(tmp_path, record_of(running.this_process()))
    assert stack._lock.take()
    try:
        with pytest.raises(AlreadyRunning, match=f"started by process {os.getpid()}"):
            second.start()
        with pytest.raises(AlreadyRunning, match="stop it first"):
            running.clear(tmp_path)
    finally:
        stack.stop()
    assert running.status(tmp_path) is None


def test_a_shell_that_holds_the_addresses_of_a_stack_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with Stack(tmp_path) as stack:
            assert stack.postgres and stack.temporal, "its own, and not taken for an operator's"
            addresses = {name: stack.environment[name] for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "API_PORT")}
        assert all(os.environ.get(name, value) == value for name, value in addresses.items()), "as they were before"
        for name, value in addresses.items():
            monkeypatch.setenv(name, value)
    running.clear(tmp_path)
    assert not tmp_path.exists()


def test_a_port_that_is_taken_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as taken:
        monkeypatch.setenv("PERENNIAL_PORT_API", str(taken.getsockname()[1]))
        with pytest.raises(StartFailed, match=r"PERENNIAL_PORT_API.* is in use"):
            Stack(tmp_path).start()
    monkeypatch.setenv("PERENNIAL_PORT_API", "eighty")
    with pytest.raises(StartFailed, match="PERENNIAL_PORT_API=eighty is not a port"):
        Stack(tmp_path).start()
    assert running.status(tmp_path) is None


def test_free_ports_are_none_that_an_outgoing_connection_would_take() -> None:
    with socket.socket() as outgoing:
        outgoing.bind(("127.0.0.1", 0))
        assert outgoing.getsockname()[1] not in SERVER_PORTS
    found = free_ports(20)
    assert len(set(found)) == 20
    assert set(found) <= set(SERVER_PORTS)


def test_free_ports_are_of_the_range_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_PORTS", "20500-20519")
    assert set(free_ports(5)) <= set(range(20500, 20520))
    with pytest.raises(StartFailed, match="no 21 free ports from 20500 to 20519"):
        free_ports(21)
    for wrong in ("20500", "20519-20500", "a-b", "0-9", "65000-65536", "-", "1-2-3"):
        monkeypatch.setenv("PERENNIAL_PORTS", wrong)
        with pytest.raises(StartFailed, match=f"PERENNIAL_PORTS={wrong} is not a range of ports"):
            free_ports(1)
