"""Verbs as they are typed, against a database of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cli

EXAMPLE = Path(__file__).parents[2] / "docs" / "catalog"
Perennial = Callable[..., tuple[int, str]]


@pytest.fixture
def perennial(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perennial:
    """Runs a verb and gives its exit code and all that it said."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["perennial", *map(str, words)])
        code = cli._run()
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example that ships."""
    for path in EXAMPLE.rglob("*"):
        if path.is_file():
            copy = tmp_path / "catalog" / path.relative_to(EXAMPLE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path / "catalog"
