"""What a running stack says to other terminals."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from sandbox import running
from tests.cli.conftest import Perennial

DATABASE = "postgresql://me:it's $HOME;@127.0.0.1:1/perennial"


def test_a_shell_takes_over_what_names_the_stack(tmp_path: Path, perennial: Perennial) -> None:
    environment = {
        "DATABASE_URL": DATABASE,
        "TEMPORAL_ADDRESS": "127.0.0.1:2",
        "TEMPORAL_NAMESPACE": "default",
        "STRIPE_API_KEY": "not for other commands",
    }
    addresses = {"api": "http://127.0.0.1:3", "temporal_ui": "http://127.0.0.1:4"}
    started = datetime.now(UTC)
    running.write_down(
        tmp_path, running.Running(running.this_process(), started, True, addresses, environment, children=())
    )
    code, said = perennial("status", "--folder", str(tmp_path), "--exports")
    assert code == 0
    assert "STRIPE_API_KEY" not in said
    asked = f'{said}\nprintf "%s|%s|%s" "$DATABASE_URL" "$API" "$TEMPORAL_ADDRESS"'
    shell = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True, timeout=10)
    assert shell.stdout == f"{DATABASE}|http://127.0.0.1:3|127.0.0.1:2"


def test_without_a_stack_there_is_nothing_to_take_over(tmp_path: Path, perennial: Perennial) -> None:
    code, said = perennial("status", "--folder", str(tmp_path), "--exports")
    assert code == 1
    assert "export" not in said.replace("--exports", "")
