"""Usage and bills: corrections of what was billed already, and the worth of what nobody is billed for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from billing.catalog import Meter
from billing.money import Money
from billing.period import Period, zone
from models import unbilled
from models.catalog import live_meters, put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.recount import recount
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
    company.use("anna", "2026-01-12", 500_000, "q1")  # What stands under that name is not to be had once more.
    with transaction(company.engine) as session:
        [stray] = unbilled.of_nobody(session, "other", 10)
    assert (stray.events, stray.estimated_events, stray.estimates[0].quantity) == (3, 2, 1_000_000)


def test_a_clock_that_is_far_ahead_hides_no_price_of_the_others(company: Company) -> None:
    company.customer("anna")
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000)
    company.live("2026-02-02")
    ahead = company.sister("ahead")
    ahead.customer("zoe")
    ahead.sign("zoe", "usage")
    ahead.live("2027-01-02")
    with transaction(company.engine) as session:
        receive(session, [Event("s", "q", "stray", "llm", datetime(2026, 1, 12, tzinfo=UTC), {"n": 500_000})])
        [stray] = unbilled.of_nobody(session, "", 10)
    assert [one.meter for one in stray.estimates] == ["tokens"]


JANUARY = Period(date(2026, 1, 1), date(2026, 2, 1))


def without_price(company: Company, asked: Period = JANUARY) -> list[tuple[str, str, Decimal, str]]:
    with transaction(company.engine) as session:
        page = unbilled.without_price(session, asked, "", 10)
    return [(one.customer_id, one.usage.meter, one.usage.quantity, one.usage.why) for one in page.found]


def test_what_is_void_is_not_among_what_nobody_is_billed_for(company: Company) -> None:
    """Neither where no meter looks, nor where no price does. What counts instead is."""
    mails = {"early": 9, "wrong": 10, "other": 10, "late": 20}
    for name in ("anna", "bert"):
        company.customer(name)
        some = [
            Event("s", f"{name} {id}", name, "mail", datetime(2026, 1, day, 9, tzinfo=UTC), {})
            for id, day in mails.items()
        ]
        with transaction(company.engine) as session:
            receive(session, some)
        company.use(name, "2026-01-10", 1000, f"{name} tokens")
    for name in ("anna early", "anna wrong", "bert tokens", *(f"bert {id}" for id in mails)):
        void(company, name)
    at = datetime(2026, 1, 12, 9, tzinfo=UTC)
    void(company, "anna late", Event("s", "anna later", "anna", "mail", at, {}))
    with transaction(company.engine) as session:
        found = unbilled.by_no_meter(session, JANUARY.start, JANUARY.end, ("", ""), 10)
    assert found == [unbilled.ByNoMeter("anna", "mail", 2, date(2026, 1, 10), date(2026, 1, 12), "no_meter")]
    assert without_price(company) == [("anna", "tokens", Decimal(1000), "no_subscription")]


def test_days_of_which_a_meter_counted_nothing_are_told(company: Company) -> None:
    """One is made after the events, and looks at a field that they do not all have."""
    company.customer("anna")
    at = {day: datetime(2026, 1, day, 9, tzinfo=UTC) for day in (9, 10, 20, 21)}
    some = [Event("s", f"e{day}", "anna", "mail", moment, {"size": 1}) for day, moment in at.items()]
    with transaction(company.engine) as session:
        receive(session, some[:2])
        put_meter(session, Meter("mails", "Mails", "mail", "size"))
        receive(session, [*some[2:], Event("s", "other", "anna", "mail", at[20], {"sise": 1})])
        receive(session, [Event("s", "misspelt", "anna", "mail", at[21] + timedelta(days=1), {"sise": 1})])

    def told() -> list[tuple[int, date, date, str]]:
        with transaction(company.engine) as session:
            found = unbilled.by_no_meter(session, JANUARY.start, JANUARY.end, ("", ""), 10)
        return [(one.events, one.first_day, one.last_day, one.why) for one in found]

    assert told() == [(3, date(2026, 1, 9), date(2026, 1, 22), "not_counted")]
    with transaction(company.engine) as session:
        [mails] = [one for one in live_meters(session) if one.meter_id == "mails"]
        recount(session, mails, "anna", zone("Europe/Berlin"), (JANUARY.start, JANUARY.end), store=True)
    assert told() == [(1, date(2026, 1, 22), date(2026, 1, 22), "not_counted")]


def test_usage_without_a_price_is_told_and_billed_once_there_is_one(company: Company) -> None:
    """Anna's plan lacks the meter until she is amended, Bert has no plan, Cora is billed by her plan. Dora's plan lacks
    it too, and she gets a second subscription."""
    for name in ("anna", "bert", "cora", "dora"):
        company.customer(name)
        company.use(name, "2026-01-10", 1_000_000, f"{name}-early")
        company.use(name, "2026-01-25", 500_000, f"{name}-late")
    company.sign("anna", "fee")
    company.sign("cora", "usage")
    company.sign("dora", "fee")
    whole = Decimal(1_500_000)
    bert = ("bert", "tokens", whole, "no_subscription")
    dora = ("dora", "tokens", whole, "not_in_plan")
    assert without_price(company) == [("anna", "tokens", whole, "not_in_plan"), bert, dora]
    company.live("2026-01-20")
    company.amend("amd", "sub-anna", date(2026, 1, 20), "team")
    early = ("anna", "tokens", Decimal(1_000_000), "not_in_plan")
    assert without_price(company) == [early, bert, dora]
    company.live("2026-02-02")
    with transaction(company.engine) as session:
        page = unbilled.without_price(session, JANUARY, "", 1)
        [anna], behind = page.found, page.after
        assert behind == "anna"
        assert unbilled.without_price(session, JANUARY, "anna", 2).after == "cora"
        assert unbilled.without_price(session, JANUARY, "dora", 2) == unbilled.WithoutPricePage((), None)
    # What others paid for a unit: Cora's 1.5 million and Anna's 0.5 million, at 0.01 each.
    [worth] = anna.estimates
    assert (worth.quantity, worth.amount) == (Decimal(1_000_000), Money(1_000_000, "EUR"))
    company.sign("bert", "usage", starts_on=date(2026, 1, 1))
    company.sign("dora", "usage", subscription_id="sub-dora-too", starts_on=date(2026, 1, 1))
    company.live("2026-02-03")
    assert (
        company.sql(
            "select quantity, net_minor from invoice_line where subscription_id in ('sub-bert', 'sub-dora-too')"
        )
        == [(whole, 1_500_000)] * 2
    )
    assert without_price(company) == [early]
    company.live("2026-02-10")
    assert company.prove("2026-01").differences == ()


def test_days_after_the_end_have_no_price(company: Company) -> None:
    company.customer("anna")
    sub = company.sign("anna", "usage")
    for day in (10, 20, 30):
        company.use("anna", f"2026-01-{day}", day)
    company.cancel("can", sub, date(2026, 1, 20))
    company.live("2026-02-02")
    assert without_price(company) == [("anna", "tokens", Decimal(50), "no_subscription")]
