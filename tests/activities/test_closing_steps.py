"""The steps of a close may be done again, at any time, whatever arrives in between; a locked month stays as it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Event

import psycopg
import pytest

from activities import closing
from activities.billing import BillBatch
from activities.closing import Approval
from billing.errors import Refused, Unavailable
from tests.activities.company import Company
from tests.activities.twice import Slow

LEDGER = ("journal_entry", "journal_line", "account_total", "obligation", "invoice", "invoice_line")


@pytest.fixture
def company(company: Company) -> Company:
    """One customer with fees and usage in January, in the morning of the day on which it is to be closed."""
    company.customer("anna")
    company.sign("anna")
    company.live("2026-01-20")
    company.use("anna", "2026-01-17", 1000)
    company.live("2026-02-05")
    return company


def revenue(company: Company, month: str) -> int:
    [(minor,)] = company.sql(
        "select coalesce(sum(case side when 'C' then amount_minor else -amount_minor end), 0)::bigint from journal_line"
        " where account like '40%%' and month = %s",
        f"{month}-01",
    )
    return int(minor)


def test_a_close_does_not_begin_early(company: Company) -> None:
    company.set_clock(datetime(2026, 2, 4, 22, 59, tzinfo=UTC))
    early = company.closing.begin(company.month("2026-01"))
    assert (early.stage, early.due_at) == ("", datetime(2026, 2, 4, 23, tzinfo=UTC))
    assert company.sql("select * from ledger_period where state <> 'open'") == []
    company.set_clock(datetime(2026, 2, 4, 23, tzinfo=UTC))
    assert company.closing.begin(company.month("2026-01")).stage == "cut off"
    assert company.closing.begin(company.month("2026-02")).stage == ""


def test_recognising_again_posts_nothing_new(company: Company) -> None:
    month = company.month("2026-01")
    company.closing.begin(month)
    first = company.closing.recognise(month)
    assert (first.entries, first.amount_minor) == (1, 11_000 + 1_000)
    before = company.counts(LEDGER)
    again = company.closing.recognise(month)
    assert (again.entries, again.amount_minor) == (0, 0)
    assert company.counts(LEDGER) == before
    assert (revenue(company, "2026-01"), company.balance("1200")) == (12_000, -11_000)


def test_what_becomes_known_before_the_lock_is_recognised_in_the_same_month(company: Company) -> None:
    assert company.prove("2026-01").differences == ()
    company.use("anna", "2026-01-31", 500)
    assert company.closing.recognise(company.month("2026-01")).amount_minor == 500
    assert company.prove("2026-01").differences == ()
    assert revenue(company, "2026-01") == 12_500


def test_what_comes_is_taken_back_and_comes_again_before_the_lock(company: Company) -> None:
    """Three entries, of which the third is as the first."""
    company.prove("2026-01")
    month = company.month("2026-01")
    for n, (quantity, earned) in enumerate(((500, 12_500), (-500, 12_000), (500, 12_500))):
        company.use("anna", "2026-01-31", quantity, f"event-{n}")
        assert company.closing.recognise(month).entries == 1
        assert company.closing.recognise(month).entries == 0
        assert revenue(company, "2026-01") == earned
    assert company.prove("2026-01").differences == ()


def test_of_approvals_at_once_the_first_stands(company: Company, threads: ThreadPoolExecutor) -> None:
    month = company.month("2026-01")
    company.closing.begin(month)
    asked = [Approval(month, f"person-{n}", "") for n in range(8)]
    [stands] = set(threads.map(company.closing.approve, asked))
    assert company.sql("select approved_by from month_close where month = '2026-01-01'") == [(stands,)]


def test_late_usage_of_a_locked_month_is_earned_in_the_next_open_one(company: Company) -> None:
    company.prove("2026-01")
    company.lock("2026-01")
    company.use("anna", "2026-01-31", 300, "late")
    company.live("2026-03-06")
    company.use("anna", "2026-01-31", -100, "taken back")
    assert company.prove("2026-02").differences == ()
    assert (revenue(company, "2026-01"), revenue(company, "2026-02")) == (12_000, 11_000 + 200)
    assert company.invoices()[-1] == ("ACME-000003", 11_000 + 300)
    company.lock("2026-02")
    company.live("2026-04-06")
    assert company.prove("2026-03").differences == ()
    assert company.invoices()[-1] == ("ACME-000004", 11_000 - 100)


def test_usage_may_be_later_than_any_horizon(company: Company) -> None:
    """Half a year of closes, and then an event of the first month."""
    for month, day in zip(range(1, 7), ["03-06", "04-06", "05-06", "06-06", "07-06", "08-06"], strict=True):
        proof = company.prove(f"2026-{month:02}")
        assert proof.differences == (), month
        company.lock(f"2026-{month:02}")
        company.live(f"2026-{day}")
    company.use("anna", "2026-01-02", 4200)
    company.live("2026-09-05")
    assert company.invoices()[-1][1] == 11_000 + 4_200
    assert company.prove("2026-07").differences == ()
    assert revenue(company, "2026-07") == 11_000 + 4_200


def test_nothing_goes_into_a_locked_month(company: Company) -> None:
    company.prove("2026-01")
    company.lock("2026-01")
    company.use("anna", "2026-01-31", 300)
    with pytest.raises(psycopg.Error) as error:
        company.closing.recognise(company.month("2026-01"))
    assert error.value.sqlstate == "PB003"
    before = company.counts(LEDGER)
    company.closing.lock(company.month("2026-01"))
    assert company.counts(LEDGER) == before


def test_an_invoice_of_a_closed_day_is_issued_in_the_first_open_month(company: Company) -> None:
    """A run that was opened in January, and comes to its batch after January was closed."""
    company.customer("bert")
    company.sign("bert", starts_on=date(2026, 1, 25))
    company.lifecycle.look("sub-bert")
    company.sql("insert into billing_run values ('run_old', 'acme', '2026-01-25 12:00Z', '2026-01-25')")
    company.closing.begin(company.month("2026-01"))
    assert company.billing.bill_batch(BillBatch("run_old", 1, "bert", "bert~")).invoices == 1
    rows = company.sql("select i.issued_on, e.posted_on from invoice i join journal_entry e on e.cause_id = i.id"
                       " where i.customer_id = 'bert'")  # fmt: skip
    assert rows == [(date(2026, 2, 1), date(2026, 2, 1))]
    assert company.prove("2026-01").differences == ()


def test_a_month_with_something_unbilled_does_not_close(company: Company) -> None:
    company.customer("bert")
    company.sign("bert", starts_on=date(2026, 1, 25))
    company.lifecycle.look("sub-bert")
    company.closing.begin(company.month("2026-01"))
    with pytest.raises(Refused, match="sub-bert") as error:
        company.closing.check_billed(company.month("2026-01"))
    assert error.value.code == "not_billed"
    company.run()
    company.closing.check_billed(company.month("2026-01"))


def test_every_step_may_be_done_twice(company: Company) -> None:
    """As after a crash between a step's effect and its answer: the same rows, the same journal at the neighbour."""
    month, closing = company.month("2026-01"), company.closing
    steps = [
        lambda: closing.begin(month).stage,
        lambda: closing.check_billed(month),
        lambda: closing.recognise(month) and None,
        lambda: closing.prove(month),
        lambda: closing.await_approval(month),
        lambda: closing.approve(Approval(month, "Carla")),
        lambda: closing.post_to_erp(month),
        lambda: closing.lock(month),
    ]
    for no, step in enumerate(steps):
        answer, before = step(), company.counts((*LEDGER, "task", "agenda", "tie_out", "month_close"))
        if no != 5:
            assert step() == answer, no
        else:
            assert closing.approve(Approval(month, "Somebody Else")) == "Carla"
        assert company.counts((*LEDGER, "task", "agenda", "tie_out", "month_close")) == before, no
    assert closing.await_approval(month) == "Carla"
    assert company.sql("select stage, approved_by, erp, erp_reference from month_close") == [
        ("locked", "Carla", "pretend", "pretend-acme-2026-01")
    ]
    assert len(company.erp.journals) == 1
    assert company.open_tasks() == []
    due = company.sql("select subject, due_at from agenda where kind = 'close' and done_at is null")
    assert due == [("close/acme/2026-02", datetime(2026, 3, 4, 23, tzinfo=UTC))]


def test_an_answer_of_the_neighbour_may_be_lost(company: Company) -> None:
    company.prove("2026-01")
    company.erp.lose_answer()
    with pytest.raises(Unavailable):
        company.closing.post_to_erp(company.month("2026-01"))
    assert company.closing.post_to_erp(company.month("2026-01")) == "pretend-acme-2026-01"
    [batch] = company.erp.journals.values()
    assert batch.month == date(2026, 1, 1)
    assert {entry.posted_on.month for entry in batch.entries} == {1}


def test_the_journal_sent_is_the_month_and_balances(company: Company) -> None:
    company.prove("2026-01")
    company.closing.post_to_erp(company.month("2026-01"))
    [batch] = company.erp.journals.values()
    by_account: dict[str, int] = {}
    for entry in batch.entries:
        assert sum(line.debit.minor for line in entry.lines) == 0
        for line in entry.lines:
            by_account[line.account] = by_account.get(line.account, 0) + line.debit.minor
    assert by_account == {"1050": 13_090, "1100": 0, "1200": 1_000, "2400": -2_090, "4000": -11_000, "4010": -1_000}


def test_proving_sees_one_moment_while_events_stream_in(company: Company, threads: ThreadPoolExecutor) -> None:
    company.prove("2026-01")
    over = Event()

    def stream(sender: int) -> int:
        no = 0
        while not over.is_set():
            no += 1
            company.use("anna", f"2026-02-0{1 + no % 5}", Decimal("0.5"), f"{sender}/{no}")
        return no

    senders = [threads.submit(stream, sender) for sender in range(3)]
    found = [company.closing.prove(company.month("2026-01")).differences for _ in range(12)]
    over.set()
    sent = sum(sender.result(30) for sender in senders)
    assert found == [()] * 12
    assert company.sql("select quantity from usage_total where day >= '2026-02-01'") != []
    assert company.sql("select sum(quantity) from usage_total where day >= '2026-02-01'") == [(Decimal(sent) / 2,)]


def test_a_payment_captured_in_a_closed_month_counts_where_it_is_posted(company: Company) -> None:
    """A capture just before midnight may be written down just after the month was cut off."""
    company.prove("2026-01")
    company.lock("2026-01")
    late = (
        "update payment_attempt set decided_at = '2026-01-31 22:59Z' where id = (select cause_id from journal_entry e"
    )
    company.sql(late + " where e.cause_kind = 'payment' and e.posted_on = '2026-02-01')")
    assert company.sql("select count(*) from payment_attempt where decided_at < '2026-02-01'") == [(2,)]
    assert company.differences("2026-01") == {}
    company.live("2026-03-06")
    assert company.prove("2026-02").differences == ()


def test_a_large_month_is_recognised_and_proved_with_a_beating_heart(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = company.month("2026-01")
    company.closing.begin(month)
    for verb, step in (("totals_of", company.closing.recognise), ("proofs", company.closing.prove)):
        slow = Slow(getattr(closing, verb))
        monkeypatch.setattr(closing, verb, slow)
        slow.run(step, month)
    assert company.sql("select stage from month_close") == [("tied out",)]
