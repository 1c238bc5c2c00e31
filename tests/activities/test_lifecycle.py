"""Looking, amending, cancelling, parking: each activity twice, and each refusal an answer that stays."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from activities.lifecycle import ParkedStep
from tests.activities.company import Company
from tests.activities.twice import twice

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.fixture
def sub(company: Company) -> str:
    """Billed for January; it is the 10th."""
    company.customer("ada")
    name = company.sign("ada", "fee")
    company.live("2026-01-10")
    company.set_clock(NOON)
    return name


def ask(company: Company, name: str, sub: str, **change: Any) -> None:
    facts = {"on": date(2026, 1, 10), "discount": 0, "hash": None} | change
    company.sql(
        "insert into amendment values (%s, %s, %s, 'fee', 1, 1, %s, 'test', %s, %s)",
        name,
        sub,
        facts["on"],
        facts["discount"],
        NOON,
        facts["hash"],
    )


def test_looking_twice_before_and_on_the_first_day_changes_nothing(company: Company) -> None:
    company.customer("ada")
    name = company.sign("ada")
    assert twice(company, company.lifecycle.look, name).state == "pending"
    company.set_clock(NOON)
    seen = twice(company, company.lifecycle.look, name)
    assert (seen.state, seen.bill_now, seen.on_clock, seen.next_due) == ("active", True, True, None)


def test_an_amendment_now_or_later_is_answered_the_same_twice(company: Company, sub: str) -> None:
    ask(company, "now", sub, discount=50)
    ask(company, "later", sub, discount=10, on=date(2026, 1, 20))
    assert twice(company, company.lifecycle.amend, "now").net_minor == 3_548 - 7_097  # 22 days of 31, line by line
    assert twice(company, company.lifecycle.amend, "later").scheduled
    assert twice(company, company.lifecycle.look, sub).next_due == datetime(2026, 1, 19, 23, tzinfo=UTC)
    company.set_clock(datetime(2026, 1, 21, tzinfo=UTC))
    twice(company, company.lifecycle.look, sub)
    assert company.sql("select version, discount_percent from subscription_terms order by 1") == [
        (1, 0),
        (2, 50),
        (3, 10),
    ]
    assert twice(company, company.lifecycle.amend, "later").scheduled


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"discount": 101}, "invalid_amendment"),
        ({"on": date(2026, 1, 2)}, "invalid_amendment"),
        ({"hash": "another"}, "preview_outdated"),
    ],
)
def test_a_refused_amendment_is_answered_once_and_for_all(
    company: Company, sub: str, change: dict[str, Any], code: str
) -> None:
    ask(company, "amd", sub, **change)
    answer = twice(company, company.lifecycle.amend, "amd")
    assert (answer.accepted, answer.code) == (False, code)
    assert answer.reason
    stored = company.sql("select answer from amendment")[0][0]
    assert (stored if isinstance(stored, dict) else json.loads(stored))["code"] == code


def test_nobody_knows_such_an_amendment_or_cancellation(company: Company, sub: str) -> None:
    for act in (company.lifecycle.amend, company.lifecycle.cancel):
        assert twice(company, act, "nobody").code == "not_found"


def test_a_cancellation_stands_once_and_can_be_withdrawn_once(company: Company, sub: str) -> None:
    assert company.cancel("can-1", sub, date(2026, 2, 1)).accepted
    assert twice(company, company.lifecycle.cancel, "can-1").effective_on == "2026-02-01"
    assert company.cancel("can-2", sub, date(2026, 3, 1)).code == "already_cancelled"
    assert company.lifecycle.withdraw_cancellation(sub).accepted
    again = twice(company, company.lifecycle.withdraw_cancellation, sub)
    assert again.code == "nothing_to_withdraw"
    assert company.lifecycle.cancel("can-2").accepted
    company.live("2026-03-05")
    assert twice(company, company.lifecycle.look, sub).state == "ended"
    assert twice(company, company.lifecycle.withdraw_cancellation, sub).code == "nothing_to_withdraw"


def test_an_end_takes_everything_planned_after_it_off_the_agenda(company: Company, sub: str) -> None:
    ask(company, "later", sub, discount=10, on=date(2026, 1, 30))
    company.lifecycle.amend("later")
    company.cancel("can", sub, date(2026, 1, 20))
    company.set_clock(datetime(2026, 2, 2, tzinfo=UTC))
    seen = twice(company, company.lifecycle.look, sub)
    assert (seen.state, seen.next_due) == ("ended", None)
    assert company.sql(
        "select cause, outcome from agenda where subject = %s order by due_at", f"subscription/{sub}"
    ) == [
        ("first day", "done"),
        ("can", "done"),
        ("later", "dropped"),
    ]


def test_an_end_on_the_first_day_comes_before_the_beginning(company: Company) -> None:
    company.customer("ada")
    sub = company.sign("ada")
    company.cancel("can", sub, date(2026, 1, 1))
    company.set_clock(NOON)
    assert twice(company, company.lifecycle.look, sub).state == "ended"
    assert company.sql("select count(*) from billing_lane") == [(0,)]


def test_parking_twice_asks_one_question_and_resuming_makes_it_due_again(company: Company) -> None:
    company.customer("ada")
    subject = f"subscription/{company.sign('ada')}"
    step = ParkedStep(subject, "acme", "It is refused.", "Mend it.")
    twice(company, company.lifecycle.park, step)
    assert company.open_tasks() == [(subject, "It is refused.")]
    assert company.sql("select outcome from agenda where subject = %s", subject) == [("parked",)]
    twice(company, company.lifecycle.resume, subject)
    assert company.sql("select outcome from agenda where subject = %s", subject) == [(None,)]
    company.answer_tasks()
    twice(company, company.lifecycle.park, step)  # at the same moment of its clock: another question
    assert company.sql("select count(*), count(answered_at) from task") == [(2, 1)]
