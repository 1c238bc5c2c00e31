"""Usage and bills: corrections of what was billed already, and the worth of what nobody is billed for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from billing.money import Money
from models import unbilled
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.unbilled import WhyWaiting
from tests.activities.company import Company


def void(company: Company, name: str, instead: Event | None = None) -> None:
    with transaction(company.engine) as session:
        correct(session, [Correction("s", name, "sent in error", instead)], "key")


def test_what_is_void_after_it_was_billed_is_given_back(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000, "good")
    company.use("anna", "2026-01-11", 500_000, "bad")
    company.live("2026-02-02")
    [(_, billed)] = company.invoices()
    void(company, "bad")
    company.use("anna", "2026-02-10", 1_000_000, "later")
    company.live("2026-03-02")
    [_, (_, second)] = company.invoices()
    late = company.sql("select quantity, net_minor from invoice_line where kind = 'late_usage'")
    assert [quantity for quantity, _ in late] == [Decimal(-500_000)]
    assert billed + late[0][1] == second - late[0][1]
    assert company.prove("2026-01").differences == ()


def test_an_ended_subscription_is_billed_again_when_an_event_is_replaced(company: Company) -> None:
    """The number of its events is the same as before."""
    company.customer("anna")
    sub = company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000, "bad")
    company.cancel("can", sub, date(2026, 1, 20))
    company.live("2026-02-02")
    assert len(company.invoices()) == 1
    at = datetime(2026, 1, 10, 12, tzinfo=UTC)
    void(company, "bad", Event("s", "good", "anna", "llm", at, {"n": 3_000_000}))
    assert company.run().invoices == 1
    late = company.sql("select quantity from invoice_line where kind = 'late_usage'")
    assert late == [(Decimal(2_000_000),)]


def test_usage_of_nobody_has_an_estimated_worth(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000)
    company.live("2026-02-02")
    [(_, billed)] = company.invoices()
    at = datetime(2026, 1, 12, tzinfo=UTC)
    with transaction(company.engine) as session:
        receive(session, [Event("s", f"q{no}", "stray", "llm", at, {"n": 500_000}) for no in range(3)])
        receive(session, [Event("s", who, who, "mail", at, {"n": 1}) for who in ("other", "anna")])
    with transaction(company.engine) as session:
        other, stray = unbilled.of_nobody(session, "", 10)
        assert unbilled.of_nobody(session, "other", 10) == [stray]
        [mail] = unbilled.by_no_meter(session, date(2026, 1, 1), date(2026, 2, 1), ("", ""), 10)
    assert (other.subject, other.types, other.events, other.estimates) == ("other", ("mail",), 1, ())
    assert (stray.subject, stray.events, stray.reasons) == ("stray", 3, (WhyWaiting("subject", "unknown customer", 3),))
    assert stray.estimated_events == 3
    [worth] = stray.estimates
    assert (worth.meter, worth.quantity, worth.amount) == ("tokens", 1_500_000, Money(billed * 3 // 2, "EUR"))
    assert (mail.customer_id, mail.type, mail.events) == ("anna", "mail", 1)
