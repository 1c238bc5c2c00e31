"""What becomes of usage that comes after its window was billed, by the meter's policy, up to the proved month."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest

from activities.billing import BillBatch
from billing.errors import Refused
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from models import held, task
from models.catalog import live_meters, put_meter
from models.correction import Correction, correct
from models.database import transaction
from models.event import Event
from models.intake import receive
from models.standing import standing
from models.subscription import due_roots
from models.task import Task
from tests.activities.company import Company
from tests.activities.test_spend import FEE, TOKENS, lines, replayed, sell
from tests.activities.twice import twice

FIVE = IgnoreBelow((Below("EUR", Decimal(5)),))


def decide(company: Company, late: Late, meter: str = "tokens") -> None:
    with transaction(company.engine) as session:
        [mine] = [m for m in live_meters(session) if m.meter_id == meter]
        put_meter(session, replace(mine, late=late))


def questions(company: Company) -> list[tuple[str, str]]:
    """Id and reason of every open question about late usage, oldest first."""
    return company.sql(
        "select t.id, t.reason from task t join held_usage h on h.task_id = t.id"
        " where t.answered_at is null order by h.asked_at, h.quantity"
    )


def answer(company: Company, task_id: str, text: str) -> Task:
    """As the API does it."""
    with transaction(company.engine) as session:
        row = session.get_one(Task, task_id)
        held.lock_for(session, row)
        answered = task.answer(session, task_id, "Carla", text, company.now())
        held.decide(session, answered)
        return answered


def came(company: Company, sub: str) -> list[tuple[str, Decimal, int]]:
    with transaction(company.engine) as session:
        one = standing(session, sub)
        assert one is not None
        return [(c.state, c.quantity, c.net.minor) for c in held.came_late(session, one)]


def due(company: Company) -> list[str]:
    with transaction(company.engine) as session:
        return due_roots(session, company.entity, company.now())


def billed(company: Company, late: Late, plan: str = "usage", quantity: int = 1000) -> str:
    """A subscription with so many tokens in January, billed, under the policy."""
    decide(company, late)
    company.customer("anna")
    sub = company.sign("anna", plan)
    company.use("anna", "2026-01-10", quantity)
    company.live("2026-02-02")
    return sub


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


def void(company: Company, *names: str) -> None:
    with transaction(company.engine) as session:
        correct(session, [Correction("s", name, "wrong") for name in names], "key")


def test_credited_and_billed_again_with_the_numbers_of_the_documents(company: Company) -> None:
    sub = billed(company, CreditAndRebill())
    company.use("anna", "2026-01-11", 300)
    company.live("2026-03-02")
    company.use("anna", "2026-01-12", -800, "taken back")
    company.live("2026-04-02")
    assert lines(company, sub) == [
        ("usage", "tokens", 1000),
        *[("usage", "tokens", 0), ("late_usage", "tokens", -1000), ("late_usage", "tokens", 1300)],
        *[("usage", "tokens", 0), ("late_usage", "tokens", -1300), ("late_usage", "tokens", 500)],
    ]
    named = company.sql(
        "select description, quantity::int from invoice_line where kind = 'late_usage' order by net_minor"
    )
    assert named == [
        ("Tokens, credit of ACME-000001 and ACME-000002", -1300),
        ("Tokens, credit of ACME-000001", -1000),
        ("Tokens, billed again with what was received after billing", 500),
        ("Tokens, billed again with what was received after billing", 1300),
    ]
    replayed(company, sub)
    assert company.prove("2026-01").differences == ()
    assert -company.balance("4010") == 500


def test_too_little_is_ignored_and_never_due_for_ever(company: Company) -> None:
    sub = billed(company, FIVE)
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    issued = len(company.invoices())
    company.use("anna", "2026-01-11", 499)
    assert due(company) == ["anna"]
    assert (company.run().invoices, due(company)) == (0, [])
    assert came(company, sub) == [("ignored", 499, 499)]
    assert company.prove("2026-01").differences == ()
    assert -company.balance("4010") == 1000
    company.use("anna", "2026-01-12", 1)
    assert (company.run().invoices, due(company)) == (1, [])
    assert lines(company, sub)[issued:][-1] == ("late_usage", "tokens", 500)
    assert came(company, sub) == []
    replayed(company, sub)


def test_another_policy_looks_again_at_subscriptions_that_have_ended(company: Company) -> None:
    sub = billed(company, FIVE)
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    company.use("anna", "2026-01-11", 499)
    company.run()
    assert due(company) == []
    decide(company, FIVE)
    assert due(company) == [], "the same again changes nothing"
    decide(company, NextInvoice())
    assert due(company) == ["anna"]
    assert (company.run().invoices, due(company)) == (1, [])
    assert lines(company, sub)[-1] == ("late_usage", "tokens", 499)


def test_held_usage_is_asked_about_once_and_billed_or_waived(company: Company) -> None:
    sub = billed(company, Hold())
    company.use("anna", "2026-01-11", 300)
    company.live("2026-03-02")
    [(first, reason)] = questions(company)
    assert reason == (
        "Late usage of anna, subscription sub-anna: Tokens, meter tokens, 2026-01-01 to 2026-01-31: +300, net 3.00 EUR."
    )
    company.use("anna", "2026-01-12", 50)
    company.live("2026-04-02")
    [_, (second, _)] = questions(company)
    assert came(company, sub) == [("asked", 50, 50), ("asked", 300, 300)]
    assert answer(company, first, "bill: they agreed").answer == "bill: they agreed"
    assert answer(company, first, "bill: they agreed").answer == "bill: they agreed"
    with pytest.raises(Refused, match="Another answer stands"):
        answer(company, first, "waive")
    answer(company, second, "Waive it")
    assert came(company, sub) == [("next_invoice", 300, 300), ("waived", 50, 50)]
    company.use("anna", "2026-01-13", 7)
    company.live("2026-05-02")
    assert [x for x in lines(company, sub) if x[0] == "late_usage"] == [("late_usage", "tokens", 300)]
    assert came(company, sub) == [("asked", 7, 7), ("waived", 50, 50)]
    replayed(company, sub)
    assert company.prove("2026-01").differences == ()
    assert -company.balance("4010") == 1300
    [(who, what)] = company.sql("select answered_by, answer from task where id = %s", second)
    assert (who, what) == ("Carla", "Waive it")


def test_what_was_shown_and_decided_stays(company: Company) -> None:
    billed(company, Hold())
    company.use("anna", "2026-01-11", 300)
    company.live("2026-03-02")
    [(asked, _)] = questions(company)
    answer(company, asked, "waive")
    for statement in (
        "delete from held_usage",
        "update held_usage set net_minor = 1",
        "update held_usage set decision = null, decided_at = null",
    ):
        with pytest.raises(psycopg.Error) as error:
            company.sql(statement)
        assert error.value.sqlstate == "PB001"


def test_an_unclear_answer_decides_nothing(company: Company) -> None:
    billed(company, Hold())
    company.use("anna", "2026-01-11", 300)
    company.live("2026-03-02")
    [(asked, _)] = questions(company)
    with pytest.raises(Refused):
        answer(company, asked, "fine with me")
    assert [key for key, _ in questions(company)] == [asked]
    assert company.sql("select decision from held_usage") == [(None,)]


def test_an_ended_subscription_is_asked_about_and_billed(company: Company) -> None:
    sub = billed(company, Hold())
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    company.use("anna", "2026-01-11", 300)
    assert (company.run().invoices, due(company)) == (0, [])
    [(asked, _)] = questions(company)
    answer(company, asked, "bill")
    assert due(company) == ["anna"]
    assert (company.run().invoices, due(company)) == (1, [])
    assert lines(company, sub)[-1] == ("late_usage", "tokens", 300)
    assert company.prove("2026-01").differences == ()


def test_a_batch_that_asks_is_done_twice_with_one_question(company: Company) -> None:
    sub = billed(company, Hold())
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    company.use("anna", "2026-01-11", 300)
    company.sql("insert into billing_run values ('run', 'acme', %s, '2026-02-10')", company.now())
    done = twice(company, company.billing.bill_batch, BillBatch("run", 1, ""))
    assert (done.invoices, done.parked, len(questions(company))) == (0, 0, 1)


def test_answers_and_runs_at_the_same_time_bill_once(company: Company) -> None:
    sub = billed(company, Hold())
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    company.use("anna", "2026-01-11", 300)
    company.run()
    [(asked, _)] = questions(company)
    said: list[str | None] = []
    too_late: list[str] = []

    def say(text: str) -> None:
        try:
            said.append(answer(company, asked, text).answer)
        except Refused as refusal:
            too_late.append(refusal.code)

    acts: list[Callable[[], object]] = [
        lambda: say("bill"),
        lambda: say("waive"),
        *[lambda no=no: company.bill_one(sub, f"again {no}") for no in range(4)],  # type: ignore[misc]
    ]
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    company.run()
    assert (len(said), too_late) == (1, ["answered_already"])
    late = [x for x in lines(company, sub) if x[0] == "late_usage"]
    assert late == ([("late_usage", "tokens", 300)] if said[0] == "bill" else [])
    assert questions(company) == []
    assert company.prove("2026-01").differences == ()


LOST = {
    "a line to be billed": ("delete from pending_item where cause like 'held%%'", 300),
    "a decision": ("update held_usage set decision = null, decided_at = null where decision = 'waive'", 20),
    "an answer": ("update task set answered_at = null where answer = 'waive'", 20),
    "a question": ("delete from task where answer is null", 1),
}


@pytest.mark.parametrize("name", LOST)
def test_the_close_sees_held_usage_that_got_lost(company: Company, name: str) -> None:
    statement, quantity = LOST[name]
    sub = billed(company, Hold())
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    for day, said in [("2026-01-11", "bill"), ("2026-01-12", "waive"), ("2026-01-13", "")]:
        company.use("anna", day, {"bill": 300, "waive": 20, "": 1}[said])
        company.run()
        if said:
            [(asked, _)] = questions(company)
            answer(company, asked, said)
            company.set_clock(company.now().replace(minute=company.now().minute + 1))
    assert company.sql("select count(*), sum(net_minor)::int from held_usage") == [(3, 321)]
    assert company.prove("2026-01").differences == ()
    with company.tampering() as do:
        do(statement)
    [(_, left, right)] = company.differences("2026-01")["late usage held"]
    assert (left * 100, right) == (quantity, 0)


@pytest.mark.parametrize("late", [NextInvoice(), CreditAndRebill(), Hold(), FIVE])
def test_the_close_sees_late_usage_at_which_nobody_looks(company: Company, late: Late) -> None:
    """However many events somebody has written down as seen: but for what is ignored, it is not billed."""
    sub = billed(company, late)
    company.cancel("can", sub, date(2026, 2, 2))
    company.live("2026-02-06")
    company.use("anna", "2026-01-11", 300)
    assert company.prove("2026-01").differences == ()
    with company.tampering() as do:
        do("update usage_seen set events = events + 1")
    assert due(company) == []
    found = company.differences("2026-01").get("usage billed")
    assert found == (None if late == FIVE else [("anna tokens", Decimal(1300), Decimal(1000))])
    with company.tampering() as do:
        do("delete from usage_seen")
    company.run()
    assert company.differences("2026-01") == {}


def test_a_waiver_is_not_paid_out_when_the_usage_is_void(company: Company) -> None:
    sub = waived(company, NextInvoice())
    void(company, "late")
    company.live("2026-04-02")
    assert [x for x in lines(company, sub) if x[0] == "late_usage"] == []
    [(asked, reason)] = questions(company)
    assert "-300, net -3.00 EUR (of what counts as billed, 3.00 EUR was held for a person" in reason
    answer(company, asked, "waive")
    company.live("2026-05-02")
    assert company.prove("2026-01").differences == ()
    assert -company.balance("4010") == 1000


@pytest.mark.parametrize("said", ["", "waive", "bill"])
@pytest.mark.parametrize("late", [NextInvoice(), FIVE, Hold()])
def test_the_first_usage_of_a_window_is_held_and_then_void(company: Company, said: str, late: Late) -> None:
    """No event of the window counts any more, and no line has billed it: what was held is still looked at."""
    sell(company, "mute", {**TOKENS, "zero_line": False})
    decide(company, Hold())
    company.customer("anna")
    sub = company.sign("anna", "mute")
    company.live("2026-02-02")
    at = datetime(2026, 1, 11, 12, tzinfo=UTC)
    with transaction(company.engine) as session:
        receive(session, [Event("s", "wrong", "anna", "llm", at, {"n": 600})])
    company.use("anna", "2026-02-10", 7)
    company.live("2026-03-02")
    [(asked, _)] = questions(company)
    if said:
        answer(company, asked, said)
    decide(company, late)
    with transaction(company.engine) as session:
        correct(session, [Correction("s", "wrong", "wrong")], "key")
    company.live("2026-04-02")
    assert company.prove("2026-01").differences == ()
    for asked, _ in questions(company):
        answer(company, asked, said or "waive")
    company.use("anna", "2026-01-13", 900, "right")
    company.live("2026-05-02")
    for asked, _ in questions(company):
        answer(company, asked, "bill")
    company.live("2026-06-02")
    assert sum(net for kind, _, net in lines(company, sub) if kind == "late_usage") == 900
    assert company.prove("2026-01").differences == ()
    replayed(company, sub)


POLICIES: dict[str, tuple[Late, int]] = {
    "next invoice": (NextInvoice(), 1),
    "credit and rebill": (CreditAndRebill(), 2),
    "ignored from 0.01 on": (IgnoreBelow((Below("EUR", Decimal("0.01")),)), 1),
    "other currencies": (IgnoreBelow((Below("USD", Decimal(1000)),)), 1),
    "held": (Hold(), 1),
}


@pytest.mark.parametrize("name", POLICIES)
def test_whatever_the_policy_a_plans_minimum_comes_out_the_same(company: Company, name: str) -> None:
    """50.00 at least, 20% off: 20 of fees and 10 of usage, then 5 of usage more, then 60 more."""
    policy, many = POLICIES[name]
    sell(company, "floor", FEE, TOKENS, bounds={"minimum": "50"}, discounts=[{"kind": "percent", "value": "20"}])
    sub = billed(company, policy, "floor")
    for quantity, day in [(500, "2026-01-20"), (6000, "2026-01-21")]:
        company.use("anna", day, quantity)
        company.live("2026-03-02" if quantity == 500 else "2026-04-02")
        for asked, _ in questions(company):
            answer(company, asked, "bill")
    company.live("2026-05-02")
    late = [x for x in lines(company, sub) if x[0] == "late_usage"]
    assert sum(net for *_, net in late) == 5200
    assert len(late) == 2 * many
    january = company.sql(
        "select sum(net_minor)::int from invoice_line where period_start = '2026-01-01' and subscription_id = %s", sub
    )
    assert january == [(1600 + 800 + 5200,)]
    replayed(company, sub)
    assert company.prove("2026-01").differences == ()
