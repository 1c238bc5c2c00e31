"""Money that comes for what was written down as declined, methods that change meanwhile, and other gateways' tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from activities.payments import ChargeRun, Payments, subject_of
from billing.errors import Refused
from integrations.payments import ChargeOrder, Outcome
from models import payment
from models.customer import PaymentMethod
from models.database import transaction
from models.invoice import summary
from tests.activities.company import Company
from tests.activities.twice import tables, twice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(company: Company) -> ChargeRun:
    """A customer was billed for January; nobody was charged."""
    company.set_clock(NOON)
    company.customer("ada")
    company.lifecycle.look(company.sign("ada"))
    return ChargeRun(company.bill().run_id)


@pytest.fixture
def payments(company: Company) -> Payments:
    return Payments(company.engine, "pretend", company.gateway)


@pytest.fixture
def invoice_id(company: Company, run: ChargeRun) -> str:
    return str(company.sql("select id from invoice")[0][0])


def declined(company: Company, run: ChargeRun, payments: Payments, *later: str) -> str:
    """The first attempt is declined, and later ones end so; the first one's id."""
    company.gateway.expect("ada", "insufficient_funds", *later)
    payments.charge_run(run)
    return str(company.sql("select id from payment_attempt")[0][0])


def paid_after_all(company: Company, attempt_id: str) -> None:
    """The gateway has it paid, and its webhook was taken in."""
    [(reference,)] = company.sql("select reference from payment_attempt where id = %s", attempt_id)
    company.gateway.settle(reference)
    with transaction(company.engine) as session:
        payment.ask_after(session, attempt_id)


def states(company: Company) -> list[str]:
    return [state for (state,) in company.sql("select state from payment_attempt order by no")]


def planned(company: Company) -> list[str]:
    return [cause for (cause,) in company.sql("select cause from agenda where kind = 'collect' and done_at is null")]


def hold(company: Company) -> bool:
    """Whether the tie-outs of the month hold."""
    company.set_clock(datetime(2026, 2, 6, 12, tzinfo=UTC))
    company.bill()
    return company.prove("2026-01").differences == ()


def test_money_for_what_was_declined_is_booked_and_dunning_ends(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    paid_after_all(company, declined(company, run, payments))
    assert len(planned(company)) == 2
    seen = twice(company, payments.collect, invoice_id)
    assert (seen.settled, seen.next_due, seen.attempts) == (True, None, 1)
    assert (states(company), planned(company), company.open_tasks()) == (["paid"], [], [])
    assert (company.balance("1100"), company.balance("1050")) == (0, company.gateway.charges[0].amount.minor)
    company.set_clock(NOON + timedelta(days=20))
    twice(company, payments.collect, invoice_id)
    assert len(company.gateway.charges) == 1
    assert hold(company)


def test_what_is_declined_at_the_gateway_too_is_not_charged_before_its_day(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    attempt_id = declined(company, run, payments)
    for _ in range(2):
        with transaction(company.engine) as session:
            payment.ask_after(session, attempt_id)
        seen = twice(company, payments.collect, invoice_id)
        assert (states(company), planned(company), seen.settled) == (["declined"], ["attempt 2"], False)
    assert len(company.gateway.charges) == 1


def test_an_invoice_that_was_paid_otherwise_meanwhile_is_a_persons_task(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    first = declined(company, run, payments)
    company.set_clock(NOON + timedelta(days=3))
    assert payments.collect(invoice_id).settled
    paid_after_all(company, first)
    assert twice(company, payments.collect, invoice_id).settled
    amount = company.gateway.charges[0].amount
    assert (states(company), planned(company)) == (["paid", "paid"], [])
    assert (company.balance("1100"), company.balance("1050")) == (-amount.minor, 2 * amount.minor)
    [(subject, reason)] = company.open_tasks()
    assert subject == subject_of(invoice_id)
    assert f"overpaid by {amount}" in reason
    with transaction(company.engine) as session:
        assert summary(session, invoice_id).status == "overpaid"
    assert hold(company)


@pytest.mark.parametrize(("end", "tasks"), [("succeeded", 1), ("insufficient_funds", 0), ("lost_card", 0)])
def test_a_second_payment_that_is_under_way_is_followed_to_its_end(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str, end: str, tasks: int
) -> None:
    first = declined(company, run, payments, "pending")
    company.set_clock(NOON + timedelta(days=3))
    assert payments.collect(invoice_id).pending
    paid_after_all(company, first)
    seen = twice(company, payments.collect, invoice_id)
    assert (seen.settled, seen.pending, seen.next_due) == (True, True, NOON + timedelta(days=4))
    [(reference,)] = company.sql("select reference from payment_attempt where state = 'pending'")
    company.gateway.settle(reference, end)
    company.set_clock(NOON + timedelta(days=4))
    seen = twice(company, payments.collect, invoice_id)
    assert (seen.settled, seen.pending, seen.next_due) == (True, False, None)
    assert (len(company.open_tasks()), len(company.gateway.charges)) == (tasks, 2)


def store(company: Company, token: str, gateway: str = "pretend") -> None:
    with transaction(company.engine) as session:
        method = PaymentMethod(customer_id="ada", gateway=gateway, token=token, added_at=datetime.now(UTC))
        payment.collect_with(session, session.merge(method))


def test_a_new_method_after_the_gateway_refused_one_is_charged(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = company.gateway.charge

    def picky(order: ChargeOrder) -> Outcome:
        if order.method_token == "card":
            raise Refused("There is no such card.", code="resource_missing")
        return charge(order)

    monkeypatch.setattr(company.gateway, "charge", picky)
    payments.charge_run(run)
    with pytest.raises(Refused):
        payments.collect(invoice_id)
    before = planned(company)
    store(company, "another")
    assert len(planned(company)) == len(before) + 1
    assert twice(company, payments.collect, invoice_id).settled


def test_a_new_method_while_a_charge_is_under_way_waits_for_its_end(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    company.gateway.lose_answer()
    payments.charge_run(run)
    before = planned(company)
    store(company, "another")
    assert planned(company) == before
    assert payments.collect(invoice_id).settled
    assert [order.method_token for order in company.gateway.charges] == ["card"]


def test_a_method_of_another_gateway_is_never_sent_to_ours(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    company.sql("update payment_method set gateway = 'elsewhere'")
    done = payments.charge_run(run)
    assert (done.collections, payments.charge_run(run).more) == ((subject_of(invoice_id),), False)
    before = tables(company)
    for _ in range(2):
        with pytest.raises(Refused, match="at the gateway 'elsewhere', and payments go through 'pretend'") as refused:
            payments.collect(invoice_id)
        assert "Store a payment method at 'pretend'" in refused.value.remedy
    assert (tables(company), company.gateway.charges) == (before, ())
    store(company, "another")
    assert twice(company, payments.collect, invoice_id).settled


def test_a_payment_that_was_begun_at_another_gateway_is_not_begun_again_at_ours(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str
) -> None:
    company.gateway.lose_answer()
    payments.charge_run(run)
    moved = Payments(company.engine, "elsewhere", company.gateway)
    with pytest.raises(Refused, match="begun at the gateway 'pretend'"):
        moved.collect(invoice_id)
    company.sql("update payment_attempt set state = 'pending', reference = 'r'")
    for act in (moved.collect, moved.ask_gateway):
        with pytest.raises(Refused, match="begun at the gateway 'pretend'"):
            act(invoice_id)
    assert len(company.gateway.charges) == 1


def test_on_the_wall_clock_the_gateway_is_told_when_an_attempt_began(
    company: Company, run: ChargeRun, payments: Payments, invoice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test clock says nothing about the gateway's time."""
    seen: list[datetime | None] = []
    charge = company.gateway.charge

    def watched(order: ChargeOrder) -> Outcome:
        seen.append(order.begun_at)
        return charge(order)

    monkeypatch.setattr(company.gateway, "charge", watched)
    company.gateway.lose_answer(2)
    payments.charge_run(run)
    company.sql("update legal_entity set clock_id = null")
    company.sql("update payment_attempt set started_at = %s", NOON)
    payments._charge_of_run(invoice_id)
    assert seen == [None, NOON]
