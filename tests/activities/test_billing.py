"""Billing in sets: each period and each change once, whoever bills, repeats, races, breaks or waits for a person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Barrier

import pytest

import activities.billing
from activities.billing import BillBatch, Billed, OpenRun, Run
from tests.activities.company import Company

FACTS = ("invoice", "invoice_line", "invoice_number", "journal_entry", "obligation", "outbox", "task", "pending_item")


def many(company: Company, count: int, plan: str = "team") -> list[str]:
    """So many customers with a subscription from January on, all of it still to be billed; their names in order."""
    names = [f"c{no:03}" for no in range(count)]
    for name in names:
        company.customer(name)
        company.sign(name, plan)
    company.set_clock(datetime(2026, 1, 1, 6, tzinfo=UTC))
    for name in names:
        company.lifecycle.look(f"sub-{name}")
    return names


def open_run(company: Company) -> Run:
    return company.billing.open_run(OpenRun(company.entity))


def sound(company: Company) -> None:
    """No gap, no line or period twice, and what is owed in the ledger is what the documents say."""
    numbers = company.sql(
        "select kind, n, row_number() over (partition by entity_id, kind order by n) from invoice_number"
    )
    assert all(n == place for _, n, place in numbers)
    assert company.sql("select count(*) from invoice") == [(len(numbers),)]
    doubled = company.sql(
        "select subscription_id, item, daterange(period_start, period_end) from invoice_line where kind in"
        " ('recurring', 'usage') and period_end > period_start group by 1, 2, 3 having count(*) > 1"
    )
    assert doubled == []
    overlaps = company.sql(
        "select a.id from invoice_line a join invoice_line b using (subscription_id, item, kind)"
        " where a.kind = 'recurring' and a.id < b.id"
        " and a.period_start < b.period_end and b.period_start < a.period_end"
    )
    assert overlaps == []
    [(owed,)] = company.sql(
        "select coalesce(sum(total_minor), 0)::bigint - (select coalesce(sum(amount_minor), 0)::bigint"
        " from payment_attempt where state = 'paid') from invoice"
    )
    assert company.balance("1100") == owed


def test_a_batch_done_again_gives_its_answer_and_nothing_else(company: Company) -> None:
    many(company, 3)
    run = open_run(company)
    command = BillBatch(run.run_id, 1, run.batches[0])
    first = company.billing.bill_batch(command)
    assert first == Billed(run.run_id, 3, 3 * 13_090, 0)
    before = company.counts(FACTS)
    assert company.billing.bill_batch(command) == first
    company.sql("delete from billing_batch")
    assert company.billing.bill_batch(command) == Billed(run.run_id)
    assert open_run(company).batches == ()
    assert company.counts(FACTS) == before
    sound(company)


def test_an_answer_is_kept_in_the_transaction_of_its_batch(company: Company) -> None:
    """Whatever moment a worker dies at: either both are there or none."""
    many(company, 1)
    run = open_run(company)
    company.billing.bill_batch(BillBatch(run.run_id, 1, run.batches[0]))
    one = company.sql("select b.xmin = i.xmin from billing_batch b, invoice i")
    assert one == [(True,)]


def test_batches_divide_all_roots_among_them(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activities.billing, "BATCH", 3)
    names = many(company, 10)
    run = open_run(company)
    assert run.batches == (names[0], names[3], names[6], names[9])
    assert company.bill_run(run).invoices == 10
    assert [c for (c,) in company.sql("select customer_id from invoice i, invoice_number n where invoice_id = i.id"
                                      " order by n")] == names  # fmt: skip
    sound(company)


def test_rivals_at_the_same_batch_bill_it_once(company: Company, threads: ThreadPoolExecutor) -> None:
    many(company, 8)
    runs = [open_run(company), open_run(company)]
    together = Barrier(6)

    def bill(no: int) -> Billed:
        together.wait(30)
        return company.billing.bill_batch(BillBatch(runs[no % 2].run_id, 1 + no // 2, runs[0].batches[0]))

    done = [waiting.result(60) for waiting in [threads.submit(bill, no) for no in range(6)]]
    assert sum(answer.invoices for answer in done) == 8
    assert company.counts(["invoice", "journal_entry"]) == {"invoice": 8, "journal_entry": 8}
    sound(company)


def test_only_the_one_root_is_billed(company: Company) -> None:
    for name in ("anna", "anna2", "anna-b", "annaz"):
        company.customer(name)
        company.sign(name)
    company.set_clock(datetime(2026, 1, 1, 6, tzinfo=UTC))
    for name in ("anna", "anna2", "anna-b", "annaz"):
        company.lifecycle.look(f"sub-{name}")
    assert company.bill_one("sub-anna", "first").invoices == 1
    assert company.bill_one("sub-anna", "first").invoices == 1
    assert company.sql("select customer_id from invoice") == [("anna",)]
    assert company.bill_one("sub-anna", "again").invoices == 0
    assert company.bill().invoices == 3


def test_missed_months_are_all_billed_and_once(company: Company) -> None:
    many(company, 1)
    company.use("c000", "2026-02-03", 500)
    company.set_clock(datetime(2026, 4, 10, tzinfo=UTC))
    company.run()
    lines = company.sql("select item, period_start, net_minor from invoice_line order by 1, 2")
    assert [row[1].month for row in lines] == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]
    assert [row[2] for row in lines if row[0] == "tokens"] == [0, 500, 0]
    assert company.invoices() == [("ACME-000001", 4 * 11_000 + 500)]
    assert company.run().invoices == 0
    sound(company)


RACES = 50


def test_amendments_race_with_billing(company: Company, threads: ThreadPoolExecutor) -> None:
    """One thread bills a root, another upgrades it, fifty times; on both ways it comes to the same money."""
    names = many(company, RACES)
    company.bill()
    company.set_clock(datetime(2026, 2, 10, 12, tzinfo=UTC))
    together = Barrier(2)

    def amend(name: str) -> bool:
        together.wait(30)
        return company.amend(f"amd-{name}", f"sub-{name}", date(2026, 2, 10), "bigger", 3).accepted

    def bill(name: str) -> int:
        together.wait(30)
        return company.bill_one(f"sub-{name}", "race").invoices

    for name in names:
        amending, billing = threads.submit(amend, name), threads.submit(bill, name)
        assert (amending.result(60), billing.result(60)) == (True, 1)
    sound(company)
    # January 110.00; February 1 to 9 of 110.00, from the 10th on of 230.00: 35.35 (two lines) and 156.07.
    sums = company.sql(
        "select subscription_id, sum(net)::bigint from (select subscription_id, net_minor as net from invoice_line"
        " union all select subscription_id, ((line -> 'gross' ->> 'minor')::bigint"
        " - (line -> 'discount' ->> 'minor')::bigint) from pending_item where invoice_id is null) x group by 1"
    )
    assert sums == [(key, 11_000 + 3_214 + 321 + 13_571 + 2_036) for key, _ in sums]
    assert len(sums) == RACES
    company.set_clock(datetime(2026, 3, 1, 6, tzinfo=UTC))
    company.bill()
    assert company.sql("select count(*) from pending_item where invoice_id is null") == [(0,)]
    assert company.sql("select distinct sum(net_minor)::bigint from invoice_line group by subscription_id") == [
        (11_000 + 3_214 + 321 + 13_571 + 2_036 + 23_000,)
    ]
    sound(company)


def test_amendments_race_with_a_batch_of_everybody(company: Company, threads: ThreadPoolExecutor) -> None:
    names = many(company, 20)
    company.bill()
    company.set_clock(datetime(2026, 2, 1, 6, tzinfo=UTC))
    billing = threads.submit(company.bill)
    amending = [
        threads.submit(company.amend, f"amd-{name}", f"sub-{name}", date(2026, 2, 1), "bigger") for name in names
    ]
    assert all(waiting.result(60).accepted for waiting in amending)
    billing.result(60)
    company.bill()
    company.set_clock(datetime(2026, 3, 1, 6, tzinfo=UTC))
    company.bill()
    assert company.sql("select distinct sum(net_minor)::bigint from invoice_line group by subscription_id") == [
        (11_000 + 21_000 + 21_000,)
    ]
    sound(company)


def test_who_has_no_tax_rate_waits_for_a_person_and_the_others_do_not(company: Company) -> None:
    company.sql("delete from tax_rate where country = 'FR'")
    for name, country in [("anna", "DE"), ("bert", "FR"), ("carl", "AT")]:
        company.customer(name, country)
        company.sign(name)
    company.live("2026-01-02")
    assert company.sql("select customer_id from invoice order by 1") == [("anna",), ("carl",)]
    assert company.open_tasks() == [("billing/bert", "No tax rate is known for FR on 2026-01-01.")]
    assert company.run().parked == 0
    company.answer_tasks()
    assert company.run().parked == 1
    assert company.run().parked == 0
    assert len(company.open_tasks()) == 1
    company.sql("insert into tax_rate values ('FR', '2014-01-01', null, 20, 'added')")
    company.answer_tasks()
    assert company.run().invoices == 1
    assert company.sql("select tax_minor from invoice where customer_id = 'bert'") == [(2_200,)]
    sound(company)


_POISONED = (
    "insert into plan select 'poison', 1, currency, jsonb_set(content, '{items,0,price,%s}', '\"%s\"'), now()"
    " from plan where plan_id = 'team'"
)
POISON = {
    "a price that nobody knows": (_POISONED % ("kind", "magic"), "Billing broke: "),
    "an amount that no column holds": (_POISONED % ("amount", "1e18"), "1 of the item 'base' of team version 1"),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_batch_that_breaks_is_divided_down_to_the_root_that_breaks_it(poison: str, company: Company) -> None:
    names = many(company, 11)
    company.sql(POISON[poison][0])
    company.sql("insert into subscription_terms values ('sub-c004', 2, '2026-01-01', 'poison', 1, 1, 0, 'test')")
    run = open_run(company)
    command = BillBatch(run.run_id, 1, run.batches[0])
    done = company.billing.bill_batch(command)
    assert (done.invoices, done.parked) == (10, 1)
    assert company.billing.bill_batch(command) == done
    [(subject, reason)] = company.open_tasks()
    assert subject == "billing/c004"
    assert reason.startswith(POISON[poison][1])
    assert {c for (c,) in company.sql("select customer_id from invoice")} == {*names} - {"c004"}
    assert open_run(company).batches == ()
    with company.tampering() as do:
        do("delete from subscription_terms where plan_id = 'poison'")
    company.answer_tasks()
    assert company.run().invoices == 1
    sound(company)


def test_no_usage_is_an_invoice_of_nothing(company: Company) -> None:
    many(company, 1, "usage")
    company.live("2026-02-05")
    assert company.invoices() == [("ACME-000001", 0)]
    assert company.counts(["journal_entry", "payment_attempt", "invoice_tax"]) == {
        "journal_entry": 0,
        "payment_attempt": 0,
        "invoice_tax": 1,
    }
    assert company.prove("2026-01").differences == ()


def test_what_is_given_back_beyond_the_charges_is_a_credit_note(company: Company) -> None:
    many(company, 1, "bigger")
    company.live("2026-01-10")
    assert company.amend("amd", "sub-c000", date(2026, 1, 10), "usage").accepted
    company.live("2026-02-05")
    # 22 of 31 days of 200.00 and 10.00, each rounded.
    assert company.invoices() == [("ACME-000001", 21_000), ("ACME-CN-000001", -14_194 - 710)]
    [(kind, total, due)] = company.sql("select kind, total_minor, due_minor from invoice where net_minor < 0")
    assert (kind, total, due) == ("credit_note", -17_736, -17_736)
    assert company.balance("1100") == -17_736
    assert len(company.gateway.charges) == 1
    assert company.prove("2026-01").differences == ()
    company.lock("2026-01")
    company.live("2026-03-06")
    assert company.prove("2026-02").differences == ()


def test_credits_pay_across_the_subscriptions_of_a_batch(company: Company) -> None:
    """Two subscriptions of one customer in one transaction do not draw the same credit twice."""
    company.customer("anna")
    company.sign("anna", "fee", prepaid_credit=Decimal(300), subscription_id="one")
    company.sign("anna", "fee", subscription_id="two")
    company.live("2026-01-02")
    company.live("2026-03-02")
    drawn = company.sql("select sum(amount_minor)::bigint, count(*) from credit_draw")
    assert drawn == [(30_000, 3)]
    assert company.balance("2100") == 0
    sums = company.sql("select sum(drawn_minor)::bigint, min(due_minor) from invoice")
    assert sums == [(30_000, 0)]


def test_a_change_planned_for_a_missed_day_still_comes_into_effect_on_its_day(company: Company) -> None:
    many(company, 2)
    company.live("2026-01-05")
    answer = company.amend("amd", "sub-c000", date(2026, 1, 20), "bigger")
    assert (answer.accepted, answer.scheduled) == (True, True)
    company.set_clock(datetime(2026, 2, 3, 6, tzinfo=UTC))
    assert company.run().invoices == 2
    assert company.sql("select effective_on from subscription_terms where version = 2") == [(date(2026, 1, 20),)]
    [(net,)] = company.sql("select net_minor from invoice where customer_id = 'c000' and issued_on > '2026-01-31'")
    assert net == 21_000 - 3_871 + 7_742
    assert company.open_tasks() == []


def test_a_change_of_the_day_on_which_it_all_ends_is_dropped(company: Company) -> None:
    many(company, 2)
    company.live("2026-01-05")
    assert company.amend("a change", "sub-c000", date(2026, 1, 20), "bigger").accepted
    assert company.cancel("the end", "sub-c000", date(2026, 1, 20)).accepted
    company.live("2026-02-05")
    assert company.sql("select cause, outcome from agenda where cause like 'a %%'") == [("a change", "dropped")]
    assert company.sql("select state, terms_version from subscription order by id") == [("ended", 1), ("active", 1)]
    assert [reason for _, reason in company.open_tasks()] == ["The customer has a credit balance of 50.67 EUR."]
    sound(company)


def test_each_legal_entity_lives_on_its_own_clock(company: Company) -> None:
    """A customer of two entities: the time of one lets nothing happen at the other, and bills nothing there."""
    other = company.sister("beta")
    company.customer("anna")
    company.sign("anna", "fee", date(2026, 1, 1), subscription_id="here")
    other.sign("anna", "fee", date(2026, 3, 1), subscription_id="there")
    company.live("2026-06-02")
    assert company.sql("select id, state from subscription order by 1") == [("here", "active"), ("there", "pending")]
    assert company.sql("select distinct entity_id from invoice") == [("acme",)]
    other.live("2026-03-02")
    assert company.sql("select state from subscription where id = 'there'") == [("active",)]
    assert company.sql("select number from invoice_number where entity_id = 'beta'") == [("BETA-000001",)]
    assert company.sql("select entity_id, count(*) from invoice group by 1 order by 1") == [("acme", 6), ("beta", 1)]


def test_usage_that_comes_after_the_end_is_billed_too(company: Company) -> None:
    many(company, 2)
    company.live("2026-01-05")
    assert company.cancel("can", "sub-c000", date(2026, 1, 20)).accepted
    company.live("2026-03-05")
    before = set(company.invoices())
    company.use("c000", "2026-01-19", 400)
    company.use("c000", "2026-01-20", 9_000)
    assert company.run().invoices == 1
    assert company.run().invoices == 0
    assert [net for _, net in set(company.invoices()) - before] == [400]
    assert company.prove("2026-01").differences == ()
    sound(company)
