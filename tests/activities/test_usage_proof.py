"""What was billed is proved from the stored events; what came since has a name, and what was tampered with is found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from billing.catalog import Meter
from billing.late import CreditAndRebill, Hold
from billing.period import zone
from billing.plan import Plan
from billing.usage_proof import EventSet
from models import usage_check
from models.catalog import live_meters, publish, put_meter
from models.correction import Correction, correct
from models.customer import add_customer, customer
from models.database import transaction
from models.event import Event, digest_of
from models.recount import recount
from models.usage_check import Checked
from models.values import read
from tests.activities.company import TEAM, Company
from tests.activities.test_late_usage import answer, decide, questions


@pytest.fixture
def billed(company: Company) -> Company:
    """Anna's January: three events, one of them under an alias, billed by one line."""
    company.customer("anna")
    with transaction(company.engine) as session:
        add_customer(session, customer(session, "anna"), ["anna-in-the-crm", "another"])
    company.sign("anna", "usage")
    company.use("anna", "2026-01-10", 1_000_000, "one")
    company.use("anna", "2026-01-11", Decimal("0.10"), "two")
    company.use("anna-in-the-crm", "2026-01-31", 7, "three")
    company.live("2026-02-02")
    return company


def proofs(company: Company) -> list[Checked]:
    """Of all invoices, in order of number."""
    numbers = company.sql("select invoice_id from invoice_number order by number")
    with transaction(company.engine) as session:
        return [one for (key,) in numbers for one in usage_check.check(session, key)]


def said(one: Checked) -> tuple[str, int | None, int | None, dict[str, int]]:
    """The verdict; how many events then and now; and what happened since."""
    then, now = one.then and one.then.events, one.now and one.now.events
    return one.verdict, then, now, dict(one.counts)


def test_the_set_behind_a_line_is_signed_and_made_again(billed: Company) -> None:
    [one] = proofs(billed)
    assert said(one) == ("holds", 3, 3, {})
    rows = billed.sql("select k.key, k.content from usage_key k")
    digest = sum(digest_of(key.hex, content) for key, content in rows) % 2**128
    assert one.signed.behind == one.then == one.now == EventSet(3, digest)
    in_sql = billed.sql("select mod(sum(usage_digest(key, content)), 2 ^ 128::numeric) from usage_key")
    assert in_sql == [(digest,)]
    assert (one.signed.first_day, one.signed.last_day) == (date(2026, 1, 1), date(2026, 1, 31))


def test_what_came_and_went_since_has_a_name(billed: Company) -> None:
    billed.use("anna", "2026-01-20", 500, "late")
    billed.use("anna", "2026-01-21", 500, "late and wrong")
    at = datetime(2026, 1, 11, 12, tzinfo=UTC)
    with transaction(billed.engine) as session:
        both = [
            Correction("s", "two", "wrong", Event("s", "two again", "anna", "llm", at, {"n": 3})),
            Correction("s", "late and wrong", "wrong"),
        ]
        correct(session, both, "key")
    [one] = proofs(billed)
    assert said(one) == ("holds", 3, 4, {"came": 2, "void": 1})
    assert {(d.id, d.what) for d in one.differences} == {("late", "came"), ("two again", "came"), ("two", "void")}
    billed.live("2026-03-02")
    january, *others = proofs(billed)
    [late] = [p for p in others if p.signed.first_day == date(2026, 1, 1)]
    assert said(january) == said(one)
    assert said(late) == ("holds", 4, 4, {})
    assert late.signed.behind == january.now


def test_a_meter_that_counts_anew_is_told(billed: Company) -> None:
    """As if the meter had counted another field for a while."""
    between = (date(2026, 1, 1), date(2026, 2, 1))
    for field, told in [("m", ("holds", 3, 0, {"not_counted": 3})), ("n", ("holds", 3, 3, {}))]:
        with billed.tampering() as do:
            do("update meter set quantity_field = %s where id = 'tokens'", field)
        with transaction(billed.engine) as session:
            [tokens] = live_meters(session)
            recount(session, tokens, "anna", zone("Europe/Berlin"), between, store=True)
        [one] = proofs(billed)
        assert said(one) == told


def test_a_meter_made_late_is_told(billed: Company) -> None:
    with transaction(billed.engine) as session:
        put_meter(session, Meter("calls", "Calls", "llm", "", "calls", aggregation="count"))
        [calls] = [m for m in live_meters(session) if m.meter_id == "calls"]
        recount(session, calls, "anna", zone("Europe/Berlin"), (date(2026, 1, 1), date(2026, 2, 1)), store=True)
    assert billed.sql("select id, counted from usage_recounted where meter_id = 'calls' order by 1") == [
        ("one", True),
        ("three", True),
        ("two", True),
    ]
    [one] = proofs(billed)
    assert said(one) == ("holds", 3, 3, {})


@pytest.mark.parametrize(
    ("fault", "then", "told"),
    [
        ("delete from usage_event where id = 'two'", 2, {}),
        ("update usage_event set data = '{\"n\": 1000001}' where id = 'one'", 3, {"altered": 1}),
        ("update usage_event set data = '{\"n\": 0.1}' where id = 'two'", 3, {"altered": 1}),
        ("update usage_event set type = 'other' where id = 'two'", 3, {"altered": 1}),
        ("update usage_event set id = 'four' where id = 'two'", 3, {"altered": 1}),
        ("update usage_event set meters = '{}' where id = 'two'", 2, {}),
        ("delete from usage_key where key = usage_key_of('s', 'two')", 3, {"altered": 1}),
        ("insert into usage_event select source, 'four', customer_id, type, occurred_at, received_at, day, data,"
         " meters, batch from usage_event where id = 'two'", 4, {"altered": 1}),
        ("insert into usage_void (source, id, customer_id, type, day, reason, by_key, batch)"
         " values ('s', 'two', 'anna', 'llm', '2026-01-11', '', '', '3')", 2, {}),
    ],
)  # fmt: skip
def test_what_was_done_behind_the_back_is_found(billed: Company, fault: str, then: int, told: dict[str, int]) -> None:
    with billed.tampering() as do:
        do(fault)
    [one] = proofs(billed)
    verdict, made, _, counts = said(one)
    if fault.startswith("delete from usage_key"):
        assert (verdict, counts) == ("holds", told)  # The event itself is as it was.
        return
    assert (verdict, made, counts) == ("broken", then, told)


def test_a_months_events_that_were_taken_away_are_said_to_be_gone(billed: Company) -> None:
    billed.sql("select make_usage_month('2026-01-01')")
    [one] = proofs(billed)
    assert said(one) == ("holds", 3, 3, {})
    billed.sql("select take_usage_month('2026-01-01')")
    [one] = proofs(billed)
    assert (said(one), one.missing) == (("taken_away", None, None, {}), (date(2026, 1, 1),))


def test_what_was_void_before_its_month_was_taken_away_is_gone_too(billed: Company) -> None:
    """No meter counts it by then."""
    billed.sql("select make_usage_month('2026-01-01')")
    with transaction(billed.engine) as session:
        correct(session, [Correction("s", name, "wrong") for name in ("one", "two", "three")], "key")
    [one] = proofs(billed)
    assert said(one) == ("holds", 3, 0, {"void": 3})
    billed.sql("select take_usage_month('2026-01-01')")
    [one] = proofs(billed)
    assert (said(one), one.missing) == (("taken_away", None, None, {}), (date(2026, 1, 1),))


def test_what_was_billed_before_signatures_is_unsigned(billed: Company) -> None:
    with billed.tampering() as do:
        do("update usage_proof set events = null, digest = null")
    billed.use("anna", "2026-01-20", 500, "late")
    [one] = proofs(billed)
    assert said(one) == ("unsigned", 3, 4, {"came": 1})


def test_more_events_than_one_answer_covers_are_not_looked_at(billed: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a line that is asked for by itself, more are."""
    monkeypatch.setattr(usage_check, "MOST_EVENTS", 2)
    [one] = proofs(billed)
    assert said(one) == ("too_many", None, None, {})
    [(invoice_id,)] = billed.sql("select invoice_id from invoice_number")
    with transaction(billed.engine) as session:
        [one] = usage_check.check(session, invoice_id, one.signed.line_no)
    assert said(one) == ("holds", 3, 3, {})


def test_a_window_without_a_line_is_signed_too(company: Company) -> None:
    """A customer without usage in January, whose plan wants no line then."""
    items = [{**item, "zero_line": False} for item in TEAM["items"]]  # type: ignore[attr-defined]
    quiet = {**TEAM, "plan_id": "quiet", "version": 1, "items": items}
    with transaction(company.engine) as session:
        publish(session, read(Plan, quiet), company.now())
    company.customer("anna")
    company.sign("anna", "quiet")
    company.live("2026-02-02")
    window = "select meter_id, period_start, period_end, events, digest, invoice_id, line_id from usage_proof"
    assert company.sql(window) == [("tokens", date(2026, 1, 1), date(2026, 2, 1), 0, 0, None, None)]
    company.use("anna", "2026-01-20", 500, "late")
    company.live("2026-03-02")
    [late] = proofs(company)
    assert said(late) == ("holds", 1, 1, {})


def test_what_is_billed_while_events_come_is_what_was_signed(company: Company, threads: ThreadPoolExecutor) -> None:
    """Events of January come in many transactions while it is billed again and again as late usage; some are made void
    meanwhile, whose quantities no others make up for: the last bill would have no line. Each event is on one side of
    each bill, for its quantity as for its signature.
    """
    company.customer("anna", card=False)
    company.cancel("can", company.sign("anna", "usage"), date(2026, 2, 1))  # So that it is due whenever usage comes.
    company.live("2026-02-01")

    def send(who: int) -> int:
        for no in range(60):
            quantity = 1000 * 2 ** (3 * who + no // 20) if no % 20 == 9 else 1 + who
            company.use("anna", f"2026-01-{1 + no % 31:02}", quantity, f"{who}-{no}")
            if no % 20 == 19:
                with transaction(company.engine) as session:
                    correct(session, [Correction("s", f"{who}-{no - 10}", "wrong")], "key")
        return 60

    sending = [threads.submit(send, who) for who in range(3)]
    while not all(one.done() for one in sending):
        company.bill()
    assert sum(one.result() for one in sending) == 180
    company.bill()
    found = proofs(company)
    assert {one.verdict for one in found} == {"holds"}
    assert len(found) > 2
    sets = [one.signed.behind for one in found]
    assert sets[-1] == found[-1].now
    assert sets[-1] is not None and sets[-1].events == 180 - 9
    lines = company.sql("select quantity from invoice_line where meter_id = 'tokens'")
    assert sum(quantity for (quantity,) in lines) == 57 * (1 + 2 + 3)


def test_every_policy_for_late_usage_signs_what_it_bills(billed: Company) -> None:
    """Credited and billed again: both lines with the set of then. Held: it is billed as it was shown, and unsigned."""
    decide(billed, CreditAndRebill())
    billed.use("anna", "2026-01-20", 500, "late")
    billed.live("2026-03-02")
    decide(billed, Hold())
    billed.use("anna", "2026-01-21", 300, "held")
    billed.live("2026-04-02")
    [(task_id, _)] = questions(billed)
    answer(billed, task_id, "bill")
    billed.live("2026-05-02")
    found = [said(one) for one in proofs(billed) if one.signed.first_day == date(2026, 1, 1)]
    assert sorted(found, key=lambda one: (one[1] or 0, one[0])) == [
        ("holds", 3, 5, {"came": 2}),
        ("holds", 4, 5, {"came": 1}),
        ("holds", 4, 5, {"came": 1}),
        ("unsigned", 5, 5, {}),
    ]
    assert usage_check.worst(proofs(billed)) == "unsigned"
    with billed.tampering() as do:
        do("delete from usage_event where id = 'one'")
    assert usage_check.worst(proofs(billed)) == "broken"
    assert usage_check.worst([]) == "holds"
