"""`perennial events import` against a real API on a real database: every format, ids, and interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.cli.conftest import HEADER, PROJECT, Sender


def test_a_file_is_taken_in_once(send: Sender, tmp_path: Path) -> None:
    file = send.csv(tmp_path / "usage.csv", 120)
    said = (0, "120 rows: 120 accepted.\n")
    assert send(file) == said
    assert send.total() == sum(range(120))
    code, again = send(file)
    assert (code, "nothing is sent now" in again, again.endswith(said[1])) == (0, True, True)
    assert send(file, "--restart") == (0, "120 rows: 0 accepted, 120 known already.\n")
    assert (send.total(), len(send.api.stored(send.source))) == (sum(range(120)), 120)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["usage.csv", "usage.csv.import.json"]


def test_numbers_are_exact_and_empty_cells_are_absent(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    at = f"{send.customer};llm;2026-01-05 10:00:00+01:00"
    file.write_text(
        f"\ufeffKey;subject;type;time;n;region;zip;code;note\r\n"
        f'007;{at};0.10;eu;00501;1.10;"says ""hi"";\r\nand more"\r\n'
        f"\r\n8;{at};1234567890123456789.00000001;;;;1e3\r\n",
        encoding="utf-8",
    )
    assert send(file, "--id-column", "Key", "--delimiter", ";", "--text", "code")[0] == 0
    assert send.api.stored(send.source) == {
        "007": {"n": Decimal("0.10"), "region": "eu", "zip": "00501", "code": "1.10", "note": 'says "hi";\r\nand more'},
        "8": {"n": Decimal("1234567890123456789.00000001"), "note": 1000},
    }
    assert send.total() == Decimal("1234567890123456789.10000001")


def test_lines_of_json(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    base = {"type": "llm", "time": "2026-01-05T10:00:00Z", "subject": send.customer}
    cloud = {**base, "specversion": "1.0", "source": "elsewhere", "id": "c1", "datacontenttype": "application/json"}
    lines = [
        json.dumps({**base, "id": 1, "n": 2, "labels": ["a"], "none": None}),
        "",
        json.dumps({**cloud, "data": {"n": 3}, "traceparent": "00-ab"}),
        json.dumps({**base, "id": "x", "n": 1}).replace('"n": 1', '"n": 0.30'),
    ]
    file.write_text("\n".join(lines))
    assert send(file) == (0, "3 rows: 3 accepted.\n")
    assert send.api.stored(send.source) == {
        "1": {"n": 2, "labels": ["a"]},
        "c1": {"n": 3, "source": "elsewhere", "traceparent": "00-ab"},
        "x": {"n": Decimal("0.30")},
    }
    only = ("events", "import", file, "--source-column", "source")
    code, said = send.perennial(*only)
    assert (code, "1 accepted" in said, "source: is missing" in said) == (1, True, True)
    assert send.api.stored("elsewhere") == {"c1": {"n": 3, "traceparent": "00-ab"}}


def test_parquet(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "usage.parquet"
    count = 130
    moments = pyarrow.array([1_767_600_000_123_456_789] * count, pyarrow.timestamp("ns", tz="UTC"))
    parquet.write_table(
        pyarrow.table(
            {
                "id": [f"p{n}" for n in range(count)],
                "subject": [send.customer] * count,
                "time": moments,
                "n": pyarrow.array([Decimal(n) / 10 for n in range(count)], pyarrow.decimal128(30, 2)),
                "share": [0.1] * count,
                "empty": pyarrow.array([None] * count, pyarrow.string()),
                "data": [{"region": "eu", "tags": [n]} for n in range(count)],
            }
        ),
        file,
        row_group_size=40,
    )
    assert send(file, "--type", "llm") == (0, "130 rows: 130 accepted.\n")
    data = {"n": Decimal("0.30"), "share": Decimal("0.1"), "region": "eu", "tags": [3]}
    assert send.api.stored(send.source)["p3"] == data
    assert send.total() == Decimal(sum(range(count))) / 10
    assert {
        str(at) for (at,) in send.api.rows("select occurred_at from usage_event where source = %s", send.source)
    } == {"2026-01-05 08:00:00.123456+00:00"}


@pytest.mark.parametrize("form", ["parquet", "ndjson", "csv"])
def test_what_was_exported_goes_in_as_it_is(send: Sender, tmp_path: Path, form: str) -> None:
    """Known already, each of them, to the last digit; of another source they would be others, with the same data."""
    sent, file = tmp_path / "sent.ndjson", tmp_path / f"exported.{form}"
    data = ['{"n": 0.10, "none": null}', '{"n": 1e3, "say": "a \\"b\\", c", "in": {"at": [1.50, true]}}', '{"n": 7}']
    data[0] = data[0].replace("null", json.dumps('"' * 200_000))  # Longer than the csv module reads by itself.
    names = f'"source": "{send.source}", "subject": "{send.customer}", "type": "llm"'
    at = '"time": "2026-01-05T10:00:00.5+01:00"'
    lines = [f'{{{names}, {at}, "id": "00{no}", "data": {one}}}' for no, one in enumerate(data)]
    sent.write_text("\n".join(lines))
    assert send.perennial("events", "import", sent) == (0, "3 rows: 3 accepted.\n")
    file.write_bytes(send.exported(form))
    assert send.perennial("events", "import", file) == (0, "3 rows: 0 accepted, 3 known already.\n")
    stored = send.api.stored(send.source)
    assert send.perennial("events", "import", file, "--source", f"{send.source}-2") == (0, "3 rows: 3 accepted.\n")
    assert send.api.stored(f"{send.source}-2") == stored

    send.voids("002")
    file.write_bytes(send.exported(form))
    code, said = send.perennial("events", "import", file, "--restart")
    assert (code, said.splitlines()[0]) == (1, "6 rows: 0 accepted, 5 known already, 1 invalid.")
    assert "void: was made void, and would count again where it is not known" in said


def test_what_came_by_an_alias_and_was_exported_is_known(send: Sender, tmp_path: Path) -> None:
    """It is exported by the customer's id. With other data it is in conflict, as ever."""
    file, exported = send.csv(tmp_path / "usage.csv", 3), tmp_path / "exported.csv"
    alias = send.has_alias()
    file.write_text(file.read_text().replace(send.customer, alias))
    assert send(file) == (0, "3 rows: 3 accepted.\n")
    exported.write_bytes(send.exported("csv"))
    assert alias not in exported.read_text()
    assert send.perennial("events", "import", exported) == (0, "3 rows: 0 accepted, 3 known already.\n")
    file.write_text(file.read_text().replace("Z,2", "Z,3"))
    code, said = send(file, "--restart")
    assert (code, "0 accepted, 2 known already, 1 in conflict" in said) == (1, True)
    assert send.total() == 0 + 1 + 2


def test_rows_without_a_source_are_refused_together(send: Sender, tmp_path: Path) -> None:
    file, lines = send.csv(tmp_path / "usage.csv", 2), tmp_path / "usage.ndjson"
    lines.write_text(json.dumps({"id": "1", "subject": send.customer, "type": "llm", "time": "2026-01-05", "n": 1}))
    for one, why in ((file, "has no column 'source', but id, subject"), (lines, "says no source")):
        code, said = send.perennial("events", "import", one)
        assert (code, f"{one}:1: {why}" in said, "--source-column" in said) == (2, True, True), said
    file.write_text(f"source,{HEADER}\n,1,{send.customer},llm,2026-01-05T10:00:00Z,1\n")
    code, said = send.perennial("events", "import", file, "--restart")
    assert (code, f"{file}:2: source: is missing" in said) == (1, True), said


def test_what_is_nested_in_parquet(send: Sender, tmp_path: Path) -> None:
    """Times in nanoseconds wherever they lie, and maps."""
    file, at = tmp_path / "usage.parquet", 1_767_600_000_123_456_789
    fine = pyarrow.timestamp("ns")
    values = {
        "seen": pyarrow.array([{"at": at, "n": 1}], pyarrow.struct([("at", fine), ("n", pyarrow.int64())])),
        "all": pyarrow.array([[at]], pyarrow.list_(fine)),
        "many": pyarrow.array([[at]], pyarrow.large_list(fine)),
        "both": pyarrow.array([[at, at]], pyarrow.list_(fine, 2)),
        "by": pyarrow.array([[("eu", {"at": [at]})]], BY_REGION),
        "labels": pyarrow.array([[("a", "x"), ("b", None)]], pyarrow.map_(pyarrow.string(), pyarrow.string())),
    }
    moments = pyarrow.array([at], pyarrow.timestamp("ns", tz="UTC")).dictionary_encode()
    parquet.write_table(pyarrow.table({"id": ["p"], "subject": [send.customer], "time": moments, **values}), file)
    assert send(file, "--type", "llm") == (0, "1 row: 1 accepted.\n")
    moment = "2026-01-05T08:00:00.123456"
    assert send.api.stored(send.source)["p"] == {
        "seen": {"at": moment, "n": 1},
        "all": [moment],
        "many": [moment],
        "both": [moment, moment],
        "by": {"eu": {"at": [moment]}},
        "labels": {"a": "x", "b": None},
    }


BY_REGION = pyarrow.map_(pyarrow.string(), pyarrow.struct([("at", pyarrow.list_(pyarrow.timestamp("ns")))]))


def test_short_floats_of_parquet_mean_what_was_written(send: Sender, tmp_path: Path) -> None:
    """With the digits of 64 bits, 0.1 would be 0.10000000149011612."""
    file, short, half = tmp_path / "usage.parquet", pyarrow.float32(), pyarrow.float16()
    columns = {
        "n": pyarrow.array([0.1, 0.2, 2.0**31, 1234567.875], short),
        "half": pyarrow.array([0.1, 1000.5, 2048.0, 6e-8], half),
        "list": pyarrow.array([[0.7, None]] * 4, pyarrow.list_(short)),
        "map": pyarrow.array([[("a", {"b": 0.7})]] * 4, pyarrow.map_(pyarrow.string(), pyarrow.struct([("b", half)]))),
        "none": pyarrow.array([None] * 4, short),
    }
    moments = pyarrow.array([1_767_600_000_000_000] * 4, pyarrow.timestamp("us", tz="UTC"))
    subjects = {"id": ["a", "b", "c", "d"], "subject": [send.customer] * 4}
    parquet.write_table(pyarrow.table({**subjects, "time": moments, **columns}), file)
    assert send(file, "--type", "llm") == (0, "4 rows: 4 accepted.\n")
    stored = send.api.stored(send.source)
    assert [stored[name]["n"] for name in "abcd"] == [Decimal("0.1"), Decimal("0.2"), 2**31, Decimal("1234567.9")]
    assert [stored[name]["half"] for name in "abcd"] == [Decimal("0.1"), 1000.5, 2048, Decimal("6e-8")]
    assert (stored["a"]["list"], stored["a"]["map"]) == ([Decimal("0.7"), None], {"a": {"b": Decimal("0.7")}})
    assert send.total() == Decimal("2148718216.2")


def test_times_without_a_zone(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    times = ["2026-07-01T00:30:00", "2026-03-29T02:30:00", "2026-10-25T02:30:00", "2026-01-01T00:00:00Z", "soon"]
    rows = [f"{n},{send.customer},llm,{time},1" for n, time in enumerate(times)]
    file.write_text("\n".join([HEADER, *rows]))
    code, said = send(file)
    assert (code, f"{file}:2: time: 2026-07-01T00:30:00 says no time zone" in said, "--time-zone" in said) == (
        2,
        True,
        True,
    )
    assert send.api.stored(send.source) == {}
    code, said = send(file, "--time-zone", "Europe/Berlin")
    assert code == 1
    assert f"{file}:3: time: did not exist in Europe/Berlin" in said and f"{file}:6: time: must be a time such" in said
    at = send.api.rows("select id, occurred_at::text from usage_event where source = %s", send.source)
    assert {no: moment[:16] for no, moment in at} == {
        "0": "2026-06-30 22:30",
        "2": "2026-10-25 00:30",
        "3": "2026-01-01 00:00",
    }
    assert send(file, "--time-zone", "Mars/Base")[0] == 2


def test_what_is_refused_is_kept_with_its_reason(send: Sender, tmp_path: Path) -> None:
    file, refused = tmp_path / "usage.csv", tmp_path / "usage.csv.refused.ndjson"
    at = f"{send.customer},llm,2026-01-05T10:00:00Z"
    rows = [f"a,{at},1", f"b,{at},many", f"a,{at},2", "c,nobody,llm,2026-01-05T10:00:00Z,1", f"d,{at}", f",{at},5"]
    file.write_text("\n".join([HEADER, *rows]))
    code, said = send(file)
    told = "1 accepted, 1 in quarantine, 1 in conflict with what came under their id before, 3 inv"
    assert (code, f"6 rows: {told}" in said) == (1, True), said
    assert f"  {file}:3: data.n: must be a number (meter tokens)\n" in said
    assert f"  {file}:6: has 4 cells, and the header has 5\n" in said
    lines = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [(one["line"], one["outcome"], one.get("field")) for one in lines] == [
        (3, "invalid", "data.n"),
        (4, "conflict", None),
        (6, "invalid", None),
        (7, "invalid", "id"),
    ]
    assert (lines[0]["row"]["n"], lines[2]["row"]) == ("many", f"d,{at}")
    kept = refused.read_bytes()
    code, again = send(file)
    assert (code, "nothing is sent now" in again, said.splitlines()[0] in again) == (1, True, True)
    assert send(file, "--subject-column", "account")[0] == 2
    assert send(file, "--restart", "--url", "http://127.0.0.1:1x")[0] == 2
    assert refused.read_bytes() == kept

    file.write_text(file.read_text().replace("many", "10").replace("a," + at + ",2", "e," + at + ",100"))
    code, said = send(file)
    assert (code, said.split(".")[0]) == (1, "6 rows: 2 accepted, 2 known already, 2 invalid")
    assert len(refused.read_text().splitlines()) == 2
    assert send.total() == 111


def test_usage_from_long_ago_waits_unless_it_is_meant(send: Sender, tmp_path: Path) -> None:
    file, other = tmp_path / "usage.csv", tmp_path / "more.csv"
    for path, name in ((file, "a"), (other, "b")):
        rows = [
            f"{name}1,{send.customer},llm,1970-06-01T10:00:00Z,1",
            f"{name}2,{send.customer},llm,2026-01-05T10:00:00Z,2",
        ]
        path.write_text("\n".join([HEADER, *rows]))
    code, said = send(file)
    assert (code, said.splitlines()[0]) == (0, "2 rows: 1 accepted, 1 in quarantine.")
    assert "whatever_time" in said
    assert send(other, "--whatever-time") == (0, "2 rows: 2 accepted.\n")
    assert send.total() == 5
    assert send(file, "--restart", "--whatever-time") == (0, "2 rows: 1 accepted, 1 known already.\n")
    assert send.total() == 6


def test_ids_that_are_made_up(send: Sender, tmp_path: Path) -> None:
    """Two rows that say the same are two events; the file again is none. A file with moved rows is not sent blindly."""
    file = send.csv(tmp_path / "usage.csv", 60, ids=False)
    file.write_text(file.read_text() + file.read_text().splitlines()[5] + "\n")
    assert send(file) == (0, "61 rows: 61 accepted.\n")
    assert send(file, "--restart") == (0, "61 rows: 0 accepted, 61 known already.\n")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(file.read_bytes())
    assert send(copy) == (0, "61 rows: 0 accepted, 61 known already.\n")
    total = send.total()

    file.write_text(file.read_text() + f"{send.customer},llm,2026-01-05T10:00:00Z,1000\n")
    code, said = send(file)
    assert (code, "was changed since 61 of its rows were sent" in said, "--restart" in said) == (2, True, True)
    assert send.total() == total
    assert send(file, "--restart") == (0, "62 rows: 1 accepted, 61 known already.\n")
    assert send.total() == total + 1000


def test_a_row_without_an_id_is_corrected_as_the_refusal_says(send: Sender, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    rows = [f"{send.customer},llm,2026-01-05T10:00:00Z,{n}" for n in ("1", "many", "4")]
    file.write_text("\n".join(["subject,type,time,n", *rows]))
    code, said = send(file)
    assert (code, "3 rows: 2 accepted, 1 invalid." in said) == (1, True), said
    assert (
        "1 row was refused; " in said
        and f"Correct it in {file} where it stands, and run it again with --restart" in said
    )
    file.write_text(file.read_text().replace("many", "2"))
    assert send(file)[0] == 2
    assert send(file, "--restart") == (0, "3 rows: 1 accepted, 2 known already.\n")
    assert send.total() == 7


def test_killed_again_and_again(send: Sender, tmp_path: Path) -> None:
    """The import by SIGKILL, then the API under it; each event counts once, and no row is left out."""
    count = 30_000
    file = send.csv(tmp_path / "usage.csv", count, ids=False)
    file.write_text(file.read_text() + f"{send.customer},llm,2026-01-05T10:00:00Z,many\n")
    state = Path(f"{file}.import.json")
    command = [sys.executable, "-m", "cli", "events", "import", str(file), "--source", send.source]

    def begun() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=PROJECT, env=send.api.environment, stdout=subprocess.PIPE)

    def rows() -> int:
        return int(json.loads(state.read_text())["rows"]) if state.exists() else 0

    for _ in range(3):
        before = rows()
        with begun() as process:
            until(lambda: rows() > before, process)  # noqa: B023 it is called before the next round
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    before = rows()
    assert 0 < before < count
    with begun() as process:
        until(lambda: rows() > before, process)
        send.api.kill()
        send.api.start()
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"{count + 1:,} rows: " in said.decode()
    assert send.total() == sum(range(count))
    assert len(send.api.stored(send.source)) == count
    assert len(Path(f"{file}.refused.ndjson").read_text().splitlines()) == 1


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_between_the_answer_and_remembering_it(send: Sender, tmp_path: Path) -> None:
    """The state is that of a batch ago, and a refused row was written in part."""
    file = send.csv(tmp_path / "usage.csv", 120)
    file.write_text(file.read_text().replace(",llm,2026-01-02T10:00:00Z,1\n", ",llm,never,1\n"))
    state, refused = tmp_path / "state.json", tmp_path / "refused.ndjson"
    words = ("--state", str(state), "--refused", str(refused))
    assert send(file, *words)[0] == 1
    whole = refused.read_bytes()
    told = json.loads(state.read_text())
    told |= {"rows": 50, "finished": False, "counts": {"accepted": 49, "invalid": 1}}
    state.write_text(json.dumps(told))
    refused.write_bytes(whole + b'{"line": 70, "outc')
    code, said = send(file, *words)
    assert (code, "120 rows: 49 accepted, 70 known already, 1 invalid." in said) == (1, True), said
    assert (refused.read_bytes(), send.total()) == (whole, sum(range(120)) - 1)
    refused.unlink()
    state.write_text(json.dumps(told))
    assert send(file, *words)[0] == 1
    assert not refused.exists() and json.loads(state.read_text())["refused_bytes"] == 0
