"""What cannot be rolled out is refused before anything is stored, each fault with its field; and one at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from billing.errors import Refused
from tests.activities.company import FEE_ONLY, Company
from tests.activities.launching import go_on, make, publish_version


def test_the_same_one_sent_many_times_at_once_is_made_once(february: Company, threads: ThreadPoolExecutor) -> None:
    waiting = [threads.submit(make, february, "r", on_day=date(2026, 3, 1)) for _ in range(8)]
    assert {one.result(60).id for one in waiting} == {"r"}
    assert february.sql("select count(*) from rollout") == [(1,)]


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({"on_day": date(2026, 2, 9)}, {"on"}),
        ({"on_day": date(2026, 3, 1), "notice_days": 20}, {"on"}),
        ({"to_version": 9}, {"version"}),
        ({"plan_id": "none", "to_plan_id": "team"}, {"plan"}),
        ({"audience": "cohort"}, {"cohort"}),
        ({"audience": "cohort", "customers": ["ada"], "share_percent": Decimal(5)}, {"cohort"}),
        ({"audience": "cohort", "share_percent": Decimal("0.0001")}, {"cohort"}),
        ({"customers": ["ada"]}, {"cohort"}),
        (
            {"audience": "cohort", "subscriptions": ["sub-ada", "sub-x"], "customers": ["y"]},
            {"cohort.subscriptions.1", "cohort.customers.0"},
        ),
        ({"audience": "new", "guard_percent": Decimal(1), "guard_action": "hold"}, {"guard"}),
        ({"audience": "new", "to_plan_id": "fee", "to_version": 1}, {"to_plan"}),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_with_its_fields(
    february: Company, asked: dict[str, Any], fields: set[str]
) -> None:
    with pytest.raises(Refused) as refusal:
        make(february, **asked)
    assert {fault.field for fault in refusal.value.faults} == fields
    assert february.counts(["rollout"]) == {"rollout": 0}


def test_a_target_of_another_currency_or_interval_is_refused(february: Company) -> None:
    publish_version(february, "dollars", {**FEE_ONLY, "currency": "USD", "interval": {"unit": "year", "count": 1}})
    with pytest.raises(Refused) as refusal:
        make(february, to_plan_id="dollars", to_version=1)
    assert [fault.reason for fault in refusal.value.faults] == [
        "has no prices in EUR, in which subscriptions run",
        "is billed at another interval than subscriptions that run each month",
    ]


def test_new_customers_cannot_be_sold_a_version_older_than_the_one_sold(february: Company) -> None:
    make(february, "first", audience="new")
    go_on(february, "first")
    with pytest.raises(Refused, match="cannot be made") as refusal:
        make(february, "second", audience="new", to_version=1)
    assert "version 2 is" in refusal.value.faults[0].reason


def test_of_two_made_at_once_one_is_refused(february: Company, threads: ThreadPoolExecutor) -> None:
    def attempt(name: str) -> str:
        try:
            return make(february, name, on_day=date(2026, 3, 10)).id
        except Refused as refusal:
            return refusal.code

    done = sorted(threads.map(attempt, ["a", "b", "c", "d"]))
    assert done[1:] == ["conflict"] * 3 and done[0] in "abcd"
    assert february.counts(["rollout"]) == {"rollout": 1}


def test_one_roll_out_of_a_plan_at_a_time(february: Company) -> None:
    make(february, on_day=date(2026, 3, 10))
    with pytest.raises(Refused, match="still open"):
        make(february, "other")
    go_on(february)
    with pytest.raises(Refused, match="still open"):
        make(february, "other")
    assert make(february, on_day=date(2026, 3, 10)).id == "r"  # the same one again
    with pytest.raises(Refused, match="taken") as refusal:
        make(february, on_day=date(2026, 3, 11))
    assert refusal.value.code == "conflict"
    february.live("2026-03-11")
    make(february, "other", on_day=date(2026, 3, 12), plan_id="fee", to_plan_id="team")
