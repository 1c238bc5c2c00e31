"""Usage taken back of which a part was waived, through the database: what a person may let go; the ledger balances."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from billing.errors import Refused
from billing.late import Hold, Late, NextInvoice
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from tests.activities.company import Company
from tests.activities.test_late_usage import answer, billed, came, decide, questions
from tests.activities.test_spend import lines, replayed


def void(company: Company, *names: str) -> None:
    with transaction(company.engine) as session:
        correct(session, [Correction("s", name, "wrong") for name in names], "key")


def waived(company: Company, late: Late) -> str:
    """1,000 tokens are billed, 300 that came late are waived; then the policy is `late`."""
    sub = billed(company, Hold())
    at = datetime(2026, 1, 11, 12, tzinfo=UTC)
    with transaction(company.engine) as session:
        receive(session, [Event("s", "late", "anna", "llm", at, {"n": 300})])
    company.live("2026-03-02")
    [(asked, _)] = questions(company)
    answer(company, asked, "waive")
    decide(company, late)
    return sub


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
    assert [x for x in lines(company, sub) if x[0] == "late_usage"] == [("late_usage", "tokens", -1000)]
    [(asked, reason)] = questions(company)
    assert reason.endswith("net -3.00 EUR (of what counts as billed, 3.00 EUR was held for a person: asked about, or"
                           " waived, and never billed).")  # fmt: skip
    with pytest.raises(Refused, match=r"0\.00 EUR is billed for this usage"):
        answer(company, asked, "bill")
    assert [key for key, _ in questions(company)] == [asked], "it is open still"
    answer(company, asked, "waive")
    company.live("2026-06-02")
    assert (questions(company), -company.balance("4010")) == ([], 1000 - 1000)
    assert came(company, sub) == [("waived", -300, -300), ("waived", 300, 300)]
    replayed(company, sub)
    assert company.prove("2026-01").differences == ()
