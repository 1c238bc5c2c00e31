"""`perennial events import` of what is no file of events: named by file and line, and nothing else is held back."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from perennial_client import Retries
from pyarrow import parquet
from rich.console import Console

import cli.events
from tests.cli.conftest import HEADER, Sender

GOOD = "id,subject,type,time,n\na,b,c,2026-01-01T00:00:00Z,1\n"
GARBAGE: list[tuple[str, bytes, str, str]] = [
    ("a.csv", b"", "a.csv:1: is empty", "first line"),
    ("a.csv", b"id,subject,,time\n", "a.csv:1: column 3 has no name", ""),
    ("a.csv", b"id,id,subject\n", "a.csv:1: names id more than once", ""),
    ("a.csv", b"id;subject;type;time\n", "a.csv:1: has no column 'subject', but id;subject", "--delimiter"),
    ("a.csv", b"id,type,time\n", "a.csv:1: has no column 'subject', but id, type, time", "--subject-column"),
    ("a.csv", GOOD.encode() + b"\xff\xfe,b\n", "a.csv:3: is not UTF-8", "UTF-8"),
    ("a.csv", GOOD.encode("utf-16"), "a.csv:1: is not UTF-8", "UTF-8"),
    ("a.csv", GOOD.encode() + b'b,"x"y,c\n', "a.csv:3: is not CSV", "quotes"),
    ("a.csv", GOOD.encode() + b'b,"never ends\n', "a.csv:3: is not CSV", "quotes"),
    ("a.csv", b"x" * (33 << 20), "a.csv:1: is a line longer than 32 MiB", "--format"),
    ("a.ndjson", b"\x00" * (33 << 20), "a.ndjson:1: is a line longer than 32 MiB", "--format"),
    ("a.parquet", GOOD.encode(), "a.parquet: ", "Parquet"),
    ("a.parquet", b"", "a.parquet: ", "Parquet"),
    ("a.parquet", b"PAR1" + b"\x00" * 100 + b"PAR1", "a.parquet: ", "Parquet"),
    ("a.txt", GOOD.encode(), "a.txt is, cannot be told", "--format"),
]


@pytest.mark.parametrize(("name", "content", "place", "remedy"), GARBAGE, ids=lambda value: str(value)[:40])
def test_files_that_are_none(send: Sender, tmp_path: Path, name: str, content: bytes, place: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(content)
    code, said = send(tmp_path / name)
    assert (code, place in said, remedy in said) == (2, True, True), said
    assert send.api.stored(send.source) == {}


ROWS_OF_GARBAGE = [
    (b"\x89PNG", "is not JSON"),
    (b"[1]", "must be a JSON object"),
    (b'{"n": NaN}', "is not JSON: NaN is no number"),
    (b'{"n": 1e99999999999999999999}', "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (b"{}", "subject: is missing"),
    (b'{"subject": true}', "subject: must be text"),
    (b'{"subject": "c", "type": "t", "time": 17}', "time: must be a time"),
    (b'{"subject": "c", "type": "t", "time": "2026-01-01T00:00:00Z", "a": 1, "data": {"a": 2}}', "a: stands in `data`"),
    (b'{"subject": "c", "type": "t", "time": "0001-01-01T00:00:00Z"}', "time: must lie in the years"),
    (b'{"subject": "c", "type": "llm", "time": "2026-01-01T00:00:00Z", "n": 1e400}', "data: Numbers must be below"),
    (b'{"subject": "c\\u0000", "type": "t", "time": "2026-01-01T00:00:00Z"}', "U+0000"),
    (b'{"subject": "c\\ud800", "type": "t", "time": "2026-01-01T00:00:00Z"}', "is not JSON that can be read"),
]


def test_rows_that_are_none(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    good = {"subject": send.customer, "type": "llm", "time": "2026-01-01T00:00:00Z", "n": 7}
    file.write_bytes(b"\n".join(raw for raw, _ in ROWS_OF_GARBAGE) + b"\n" + json.dumps(good).encode())
    code, said = send(file)
    assert (code, f"{len(ROWS_OF_GARBAGE) + 1} rows: 1 accepted, {len(ROWS_OF_GARBAGE)} invalid." in said) == (
        1,
        True,
    ), said
    lines = [json.loads(line) for line in Path(f"{file}.refused.ndjson").read_text().splitlines()]
    for no, (one, (raw, reason)) in enumerate(zip(lines, ROWS_OF_GARBAGE, strict=True), 1):
        assert one["line"] == no
        assert reason in f"{one.get('field', '')}: {one['reason']}", raw
    assert send.total() == 7


def test_columns_of_parquet_that_no_event_can_hold(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    row = {"id": "1", "subject": send.customer, "type": "llm", "time": "2026-01-01T00:00:00Z"}
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "n": float("nan")}, {**row, "n": 2.5}]), file)
    code, said = send(file)
    assert (code, f"{file}:1: n: NaN is no number" in said, send.total()) == (1, True, Decimal("2.5"))
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "blob": b"x"}]), file)
    assert f"{file}:1: blob: values of bytes cannot stand in an event" in send(file)[1]


def test_a_cell_of_parquet_that_cannot_be_read_spoils_its_row_only(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    times = [1_767_600_000_000_000] * 9
    columns = {
        "time": pyarrow.array([*times[:8], 10**18], pyarrow.timestamp("us", tz="UTC")),
        "seen": pyarrow.array([{"at": time} for time in [*times[:7], 10**18, 0]], AT),
        "note": pyarrow.array([b"a"] * 6 + [b"\xff"] + [b"a"] * 2).view(pyarrow.string()),
        "labels": pyarrow.array([[("a", 1)]] * 5 + [[("a", 1), ("a", 2)]] + [[]] * 3, LABELS),
        "clock": pyarrow.array([None] * 4 + [1] + [None] * 4, pyarrow.time64("ns")),
        "codes": pyarrow.array([[]] * 3 + [[(7, 1)]] + [[]] * 5, CODES),
        "n": [1] * 9,
    }
    ids = [f"p{n}" for n in range(9)]
    parquet.write_table(pyarrow.table({"id": ids, "subject": [send.customer] * 9, **columns}), file)
    code, said = send(file, "--type", "llm")
    assert (code, "9 rows: 3 accepted, 6 invalid." in said, send.total()) == (1, True, 3), said
    lines = [json.loads(line) for line in Path(f"{file}.refused.ndjson").read_text().splitlines()]
    assert [(one["line"], one["reason"].partition(" at ")[0]) for one in lines] == [
        (4, "codes: names must be text, not int"),
        (5, "clock: values of time cannot stand in an event"),
        (6, f"labels: cannot be read: {TWICE}"),
        (7, "note: cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (8, "seen: cannot be read: date value out of range"),
        (9, "time: cannot be read: date value out of range"),
    ]
    assert all("1000000000000000000" in one["row"] for one in lines[-2:])


AT = pyarrow.struct([("at", pyarrow.timestamp("us"))])
LABELS = pyarrow.map_(pyarrow.string(), pyarrow.int64())
CODES = pyarrow.map_(pyarrow.int64(), pyarrow.int64())
TWICE = (
    "Converting to Python dictionary is not supported in strict mode when duplicate keys are present"
    " (duplicate key was 'a')."
)


def test_what_keeps_it_from_being_done(send: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = send.csv(tmp_path / "usage.csv", 3)
    (other := tmp_path / "other.json").write_text("{}")
    monkeypatch.setattr(cli.events, "PATIENCE", Retries(attempts=2, first=0.001))
    cases: list[tuple[list[str], str, str]] = [
        (["--url", "http://127.0.0.1:1"], "http://127.0.0.1:1 cannot be reached", "nothing counts twice"),
        (["--url", "127.0.0.1:8080"], "cannot be reached", "--url"),
        (["--url", "http://[::1"], "cannot be reached", "--url"),
        (["--url", f"{send.api.url}/docs?"], "refused: 4", ""),
        (["--api-key", "key_1.wrong"], "refused: 401", "Run the same command again"),
        (["--api-key", " "], "There is no API key", "--scopes ingest"),
        (["--source-column", "type"], "Say where the usage comes from", "Either"),
        (["--delimiter", ",,"], "The delimiter must be one character", ""),
        (["--format", "xml"], "cannot be told", "--format csv"),
        (["--state", str(tmp_path / "no" / "state")], "cannot be written", "--state"),
        (["--state", str(other)], "is not the state of an import", "--restart"),
        (["--refused", str(other)], "holds something else", "--refused"),
        (["--state", str(file), "--restart"], "would be overwritten", "--state"),
        (["--refused", str(file)], "would be overwritten", "--refused"),
    ]
    for words, reason, remedy in cases:
        code, said = send(file, *words)
        assert (code, reason in said, remedy in said) == (2, True, True), said
    assert "cannot be read" in send(tmp_path / "nothing.csv")[1]
    assert "cannot be read" in send(tmp_path, "--format", "csv")[1]
    assert (file.read_text()[: len(HEADER)], other.read_text()) == (HEADER, "{}")


def test_on_a_terminal_there_is_a_bar(send: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(force_terminal=True, width=100, stderr=True)
    monkeypatch.setattr(cli.events, "complaints", shown)
    with shown.capture() as captured:
        send(send.csv(tmp_path / "usage.csv", 120))
    assert "usage.csv" in captured.get() and "100%" in captured.get() and "120 rows" in captured.get()
