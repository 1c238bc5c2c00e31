"""A folder keeps its ports over restarts, and knows the addresses of its own servers that have stopped."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from sandbox import ports, show
from sandbox.process import SERVER_PORTS
from sandbox.stack import Addresses


def listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def test_ports_stay_if_they_are_free(tmp_path: Path) -> None:
    first = ports.choose(tmp_path, keep=True)
    assert set(first.values()) <= set(SERVER_PORTS) and len(set(first.values())) == len(ports.NAMES)
    assert ports.choose(tmp_path, keep=True) == first
    with listening(first["API"]):
        second = ports.choose(tmp_path, keep=True)
    assert second["API"] not in first.values()
    assert {**second, "API": first["API"]} == first
    assert ports.choose(tmp_path, keep=True) == second, "the newest that is free"


def test_what_is_said_goes_before_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ports.choose(tmp_path, keep=True)
    other = first["API"] - 1 if first["API"] > SERVER_PORTS[0] else first["API"] + 1
    monkeypatch.setenv("PERENNIAL_PORT_API", str(other))
    assert ports.choose(tmp_path, keep=True) == {**first, "API": other}
    monkeypatch.delenv("PERENNIAL_PORT_API")
    monkeypatch.setenv("PERENNIAL_PORTS", "19000-19010")
    assert set(ports.choose(tmp_path, keep=True).values()) <= set(range(19000, 19011)), "none of outside this range"


def test_an_address_of_a_server_that_was_ours_is_known_until_another_one_listens_there(tmp_path: Path) -> None:
    mine = ports.choose(tmp_path, keep=True)
    database = f"postgresql://perennial:secret@127.0.0.1:{mine['POSTGRES']}/perennial"
    temporal = f"127.0.0.1:{mine['TEMPORAL']}"
    for folder in (tmp_path, tmp_path / "demo"):
        assert ports.was_ours(folder, "POSTGRES", database)
        assert ports.was_ours(folder, "TEMPORAL", temporal)
    assert not ports.was_ours(tmp_path / "another" / "stack", "POSTGRES", database)
    for elsewhere in (database.replace("127.0.0.1", "db.example.com"), "postgresql:///perennial", "a:b", temporal, ""):
        assert not ports.was_ours(tmp_path, "POSTGRES", elsewhere)
    with listening(mine["POSTGRES"]):
        assert not ports.was_ours(tmp_path, "POSTGRES", database)


def test_the_demo_is_looked_at_in_its_own_namespace(tmp_path: Path) -> None:
    at = Addresses(1, temporal_namespace="perennial-demo-1", temporal_ui_url="http://127.0.0.1:2")
    text = io.StringIO()
    show.addresses(Console(file=text), at, tmp_path, tmp_path)
    assert "http://127.0.0.1:2/namespaces/perennial-demo-1/workflows" in text.getvalue()
    at.temporal_ui_url = ""
    show.addresses(Console(file=text), at, tmp_path, tmp_path)
    assert "that of your server, namespace perennial-demo-1" in text.getvalue()
