"""What a running stack says to other terminals."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import cli
from sandbox import running
from tests.cli.conftest import Perennial

DATABASE = "postgresql://me:it's $HOME;@127.0.0.1:1/perennial"


def test_a_shell_takes_over_what_names_the_stack(tmp_path: Path, perennial: Perennial) -> None:
    environment = {
        "DATABASE_URL": DATABASE,
        "TEMPORAL_ADDRESS": "127.0.0.1:2",
        "TEMPORAL_NAMESPACE": "default",
        "TEMPORAL_UI_URL": "",
        "STRIPE_API_KEY": "not for other commands",
    }
    addresses = {"api": "http://127.0.0.1:3", "temporal_ui": "http://127.0.0.1:4"}
    started = datetime.now(UTC)
    running.write_down(
        tmp_path, running.Running(running.this_process(), started, True, addresses, environment, children=())
    )
    code, said = perennial("status", "--folder", str(tmp_path), "--exports")
    assert code == 0
    assert "STRIPE_API_KEY" not in said and "TEMPORAL_UI_URL" not in said
    asked = f'{said}\nprintf "%s|%s|%s" "$DATABASE_URL" "$API" "$TEMPORAL_ADDRESS"'
    shell = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True, timeout=10)
    assert shell.stdout == f"{DATABASE}|http://127.0.0.1:3|127.0.0.1:2"


def test_a_stack_that_is_starting_says_so_and_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell would take over a part of what names it, or the address of an API that does not answer yet."""
    addresses = {"api": "http://127.0.0.1:3", "temporal_ui": "http://127.0.0.1:4"}
    starter, started = running.this_process(), datetime.now(UTC)
    for environment in ({}, {"DATABASE_URL": DATABASE, "TEMPORAL_ADDRESS": "a:1", "TEMPORAL_NAMESPACE": "default"}):
        running.write_down(tmp_path, running.Running(starter, started, False, addresses, environment, children=()))
        for words in (["--exports"], []):
            monkeypatch.setattr(sys, "argv", ["perennial", "status", "--folder", str(tmp_path), *words])
            code = cli._run()
            said = capsys.readouterr()
            assert (code, said.out, "is starting" in said.err) == (1, "", True)


def test_without_a_stack_there_is_nothing_to_take_over(tmp_path: Path, perennial: Perennial) -> None:
    code, said = perennial("status", "--folder", str(tmp_path), "--exports")
    assert code == 1
    assert "export" not in said.replace("--exports", "")


def test_a_demo_that_runs_is_named(tmp_path: Path, perennial: Perennial) -> None:
    (tmp_path / "demo").mkdir()
    addresses = {"api": "http://127.0.0.1:3", "temporal_ui": "http://127.0.0.1:4"}
    starter, started = running.this_process(), datetime.now(UTC)
    running.write_down(tmp_path / "demo", running.Running(starter, started, True, addresses, {}, children=()))
    for verb in ("status", "down"):
        _, said = perennial(verb, "--folder", tmp_path)
        assert f"but the demo: say --folder {tmp_path / 'demo'}" in said
    code, said = perennial("status", "--folder", tmp_path / "demo")
    assert (code, said) == (
        0,
        "API http://127.0.0.1:3, console http://127.0.0.1:3/console, Temporal UI http://127.0.0.1:4\n",
    )
