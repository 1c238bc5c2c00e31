"""Invoices that were issued before, while and after days are counted anew: what they were signed for can be proved."""

from __future__ import annotations

from datetime import UTC, date, datetime

from billing.catalog import Filter
from models import usage_check
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.usage_check import Checked
from tests.activities.company import Company
from tests.models.test_rebuild import asked, carried_out, decided, step


def use(company: Company, day: int, n: int, month: int = 1) -> None:
    at = datetime(2026, month, day, 12, tzinfo=UTC)
    with transaction(company.engine) as session:
        receive(
            session, [Event("s", f"{month}-{day}", "anna", "llm", at, {"n": n, "cached": "yes" if n > 5 else "no"})]
        )


def checks(company: Company) -> list[Checked]:
    invoices = company.sql("select id from invoice order by issued_at")
    with transaction(company.engine) as session:
        return [one for (invoice_id,) in invoices for one in usage_check.check(session, invoice_id)]


def verdicts(company: Company) -> list[str]:
    return [one.verdict for one in checks(company)]


def test_a_bill_is_proved_whatever_the_meter_counts_by_now(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    for day, n in ((3, 4), (4, 8), (5, 16)):
        use(company, day, n * 100_000 if n < 5 else n)
    company.live("2026-02-02")
    use(company, 3, 9, month=2)
    asked(company.engine, "tokens", date(2026, 1, 1), filters=(Filter("cached", ("no",)),))
    assert step(company.engine, "tokens") == "open"
    use(company, 4, 7, month=2)
    assert carried_out(company.engine, "tokens") == ["count", "compare"]
    assert verdicts(company) == ["holds"]
    decided(company.engine, "tokens", apply=True)
    assert step(company.engine, "tokens") == "apply"
    [january] = checks(company)
    assert (january.verdict, january.counts) == ("holds", {"not_counted": 3})
    company.live("2026-03-02")
    before = checks(company)
    assert {one.verdict for one in before} == {"holds"}
    assert carried_out(company.engine, "tokens") == ["clear"]
    after = checks(company)
    assert [(one.verdict, one.then, one.now, one.counts) for one in after] == [
        (one.verdict, one.then, one.now, one.counts) for one in before
    ]
    assert company.sql("select count(distinct batch) from usage_recounted") == [(1,)]
