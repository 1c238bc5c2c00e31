"""What is handed to PostgreSQL as arrays arrives as it was: every text, number and moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from models.database import all_written, columns, in_utc
from tests.models.conftest import Sql

MOMENTS = [
    datetime(2026, 11, 28, 23, 59, 59, 999_999, UTC),
    datetime(2026, 11, 28, 12, tzinfo=ZoneInfo("Asia/Kathmandu")),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),  # Local time went by the sun: 53 minutes and 28 seconds.
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 20, tzinfo=timezone(-timedelta(hours=3))),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_moment_is_written_to_the_microsecond(sql: Sql, moment: datetime) -> None:
    [written] = all_written([in_utc(moment)])
    assert datetime.fromisoformat(written) == moment.astimezone(UTC)
    for column in ([moment], [moment, "-infinity"]):  # One kind of value, and several.
        (found,) = columns([(one,) for one in column], 1)
        assert sql("select (%s::timestamptz[])[1] = %s::timestamptz", [found, moment.astimezone(UTC).isoformat()]) == [
            (True,)
        ]


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("text", ["", "a", '"', "\\", "{,}", "null", "NULL", " two  words ", "\t\n\r", "ä€𝄞", '\\"']),
        ("bigint", [0, -(2**63), 2**63 - 1]),
        ("numeric", [Decimal("0.1"), 2**128, Decimal("-1E-30"), Decimal("1E+3")]),
        ("date", [date(2024, 2, 29), date(1, 1, 1)]),
    ],
)
def test_whatever_a_column_holds_arrives(sql: Sql, kind: str, column: list[object]) -> None:
    (found,) = columns([(one,) for one in column], 1)
    assert sql(f"select * from unnest(%s::{kind}[])", [found]) == [(one,) for one in column]


def test_no_rows_are_empty_columns_and_nul_is_refused(sql: Sql) -> None:
    assert columns([], 2) == ["{}", "{}"]
    with pytest.raises(ValueError, match="NUL"):
        columns([("a\0b",)], 1)
