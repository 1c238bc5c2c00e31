"""Every line of docs/METERING.md runs, one after another, on a stack that has nothing yet, and brings what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.stack import Stack

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "METERING.md").read_text()
THEN = f"perennial catalog apply '{DOCS / 'catalog'}' --yes\n"
"""What the README has the reader do next: neither page may take a name that the other one uses."""
SECONDS = 240

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the examples of docs/METERING.md need curl")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the shell printed, each line after the command that it answers."""
    folder = tmp_path_factory.mktemp("guide")
    blocks = re.findall(r"^```\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    with Stack(folder / "stack", keep=False) as stack:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-v"],
            input="\n".join([*blocks, THEN]),
            env={
                **os.environ,
                **stack.environment,
                "API": stack.addresses.api_url,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        yield done.stdout


def test_nothing_is_refused(said: str) -> None:
    assert re.findall(r'"status":[45]\d\d.*', said) == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param('"meter":"tokens","quantity":"1200"', id="the first event is in the total at once"),
        pytest.param('"number":"TRY-000001"', id="a month is billed"),
        pytest.param('"accepted":1,"duplicate":1,"conflict":1,"quarantined":2,"invalid":1', id="each outcome"),
        pytest.param('"discarded":1,"waiting":0', id="what shall never count is discarded"),
        pytest.param('"meter":"ms.p95","quantity":"454"', id="a percentile is that of a bucket"),
        pytest.param('"meter":"rate","quantity":"2"', id="a rate may be of events"),
        pytest.param('"state":"to_be_asked"', id="late usage is held for a person"),
        pytest.param('"stage":"applied"', id="a change of a meter is applied"),
        pytest.param('"stage":"dropping"', id="and another one is dropped"),
        pytest.param("plan team, version 1: published.", id="the example of a catalog goes beside it"),
    ],
)
def test_what_the_page_says_comes(said: str, answer: str) -> None:
    assert answer in said


def test_the_readme_imports_a_file_under_a_source_of_its_own() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    [source] = re.findall(r"events import .* --source (\S+)", readme)
    assert f'"source": "{source}"' not in GUIDE
