"""Usage taken back of which a part was waived, through the database: what a person may let go; the ledger balances."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlmodel import select

from billing.errors import Broken, Refused
from billing.late import Below, Hold, IgnoreBelow, Late, NextInvoice
from models import held
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.standing import standing
from tests.activities.company import Company
from tests.activities.test_late_usage import answer, billed, came, questions, void, waived
from tests.activities.test_spend import lines, replayed


def late_lines(company: Company, sub: str) -> list[tuple[str, str, int]]:
    return [line for line in lines(company, sub) if line[0] == "late_usage"]


@pytest.mark.parametrize("late", [NextInvoice(), Hold()])
def test_all_is_void_and_what_was_billed_is_given_back(company: Company, late: Late) -> None:
    sub = waived(company, late)
    void(company, "late", "anna2026-01-10")
    company.live("2026-04-02")
    for asked, reason in questions(company):
        if "net -3.00 EUR" not in reason:
            assert "-1,000, net -10.00 EUR." in reason
            answer(company, asked, "bill")
    company.live("2026-05-02")
    assert late_lines(company, sub) == [("late_usage", "tokens", -1000)]
    [(asked, reason)] = questions(company)
    assert reason.endswith("net -3.00 EUR (of what counts as billed, 3.00 EUR was held for a person: asked about, or"
                           " waived, and never billed).")  # fmt: skip
    with pytest.raises(Refused, match=r"0\.00 EUR is billed for this usage"):
        answer(company, asked, "bill")
    assert [key for key, _ in questions(company)] == [asked], "it is open still"
    answer(company, asked, "waive")
    company.live("2026-06-02")
    assert questions(company) == []
    assert company.prove("2026-01").differences == ()
    assert company.balance("4010") == 0
    assert came(company, sub) == [("waived", -300, -300), ("waived", 300, 300)]
    replayed(company, sub)
    assert company.prove("2026-01").differences == ()


def test_what_is_in_doubt_cannot_be_let_go_before_what_is_sure(company: Company) -> None:
    sub = waived(company, Hold())
    void(company, "late", "anna2026-01-10")
    company.live("2026-04-02")
    (sure, _), (doubtful, reason) = questions(company)
    assert "net -3.00 EUR" in reason
    with pytest.raises(Refused, match=r"10\.00 EUR is certain to be credited") as refused:
        answer(company, doubtful, "bill")
    assert refused.value.code == "never_billed"
    answer(company, sure, "bill")
    with pytest.raises(Refused, match=r"0\.00 EUR is billed for this usage\."):
        answer(company, doubtful, "bill")
    answer(company, doubtful, "waive")
    company.live("2026-05-02")
    assert (questions(company), late_lines(company, sub)) == ([], [("late_usage", "tokens", -1000)])
    replayed(company, sub)


def test_what_may_be_billed_already_comes_after_what_is_to_be_given_back(company: Company) -> None:
    """300 of 1,000 are taken back and come again: billed beside the 1,000, they would have been billed twice."""
    sub = billed(company, Hold())
    for day, quantity, month in (("2026-01-11", -300, "03"), ("2026-01-12", 300, "04")):
        company.use("anna", day, quantity, f"of {month}")
        company.live(f"2026-{month}-02")
    (back, _), (again, reason) = questions(company)
    assert "net 3.00 EUR (of what is billed, 3.00 EUR was to be given back" in reason
    with pytest.raises(Refused, match=r"that question is still open. Billing 3\.00 EUR now would") as refused:
        answer(company, again, "bill")
    assert refused.value.code == "asked_before"
    assert [key for key, _ in questions(company)] == [back, again], "both are open still"
    answer(company, back, "bill: it was wrong")
    answer(company, again, "bill")
    company.live("2026-05-02")
    assert sum(quantity for *_, quantity in late_lines(company, sub)) == 0
    assert questions(company) == []
    replayed(company, sub)


def test_two_differences_of_the_same_quantity_are_two_questions(company: Company) -> None:
    """600 are taken back after 300 were waived: 300 are sure, below the amount, and ignored; 300 are in doubt."""
    sub = waived(company, IgnoreBelow((Below("EUR", Decimal(5)),)))
    at = datetime(2026, 1, 10, 12, tzinfo=UTC)
    instead = Event("s", "less", "anna", "llm", at, {"n": 700})
    with transaction(company.engine) as session:
        correct(session, [Correction("s", "late", "x"), Correction("s", "anna2026-01-10", "x", instead)], "key")
    company.live("2026-04-02")
    [(first, _)] = questions(company)
    answer(company, first, "bill")
    company.live("2026-05-02")
    [(second, _)] = questions(company)
    assert second != first
    assert came(company, sub) == [("asked", -300, -300), ("waived", 300, 300)]
    answer(company, second, "waive")
    company.live("2026-06-02")
    assert (questions(company), late_lines(company, sub)) == ([], [("late_usage", "tokens", -300)])
    replayed(company, sub)


def test_another_difference_is_never_taken_for_one_that_was_asked_about(company: Company) -> None:
    sub = waived(company, Hold())
    with transaction(company.engine) as session:
        one, row = standing(session, sub), session.exec(select(held.HeldUsage)).one()
        assert one is not None
        line, at = row.line, company.now()
        for _ in range(2):
            held.ask(session, [(one, line)], at)
        with pytest.raises(Broken, match="was asked about otherwise"):
            held.ask(session, [(one, replace(line, gross=line.gross + line.gross))], at)
