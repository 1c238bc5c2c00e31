"""A customer's usage of a meter is billed by one subscription, however changes that are planned come together."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from billing.errors import Refused
from tests.activities.company import FEE_ONLY, TEAM, Company
from tests.activities.launching import go_on, make, publish_version
from tests.activities.test_rollout import take_back
from tests.activities.twice import twice

TENTH = date(2026, 1, 10)
BILLED = (
    "select l.subscription_id, sum(l.quantity), sum(l.net_minor) from invoice_line l"
    " where l.item = 'tokens' and l.subscription_id = any(%s) group by 1"
)


@pytest.fixture
def two(company: Company) -> Company:
    """Anna has two subscriptions of a plan without usage."""
    company.customer("anna")
    for name in ("one", "two"):
        company.sign("anna", "fee", subscription_id=name)
    company.live("2026-01-02")
    return company


def billed(company: Company, *subscriptions: str) -> list[tuple[str, Decimal]]:
    return [(name, quantity) for name, quantity, _ in company.sql(BILLED, list(subscriptions)) if quantity]


def test_of_two_changes_that_are_planned_the_second_is_refused(two: Company) -> None:
    assert two.amend("a1", "one", TENTH, "usage").accepted
    answer = two.amend("a2", "two", date(2026, 1, 20), "usage")
    assert (answer.accepted, answer.code) == (False, "double_metering")
    assert answer.faults == (("plan", "prices the meter 'tokens', as one does already"),)
    two.use("anna", "2026-01-15", 1000)
    two.live("2026-02-06")
    assert billed(two, "one", "two") == [("one", 1000)]
    assert two.prove("2026-01").differences == ()


def test_nobody_signs_for_what_a_planned_change_will_price(two: Company) -> None:
    assert two.amend("a1", "one", TENTH, "usage").accepted
    with pytest.raises(Refused, match="billed twice"):
        two.sign("anna", "usage", subscription_id="three", starts_on=date(2026, 1, 5))
    two.amend("a2", "one", date(2026, 1, 5), "fee", seats=2)  # It stays planned; another seat prices nothing new.
    with pytest.raises(Refused, match="billed twice"):
        two.sign("anna", "usage", subscription_id="three", starts_on=date(2026, 1, 5))


def test_who_withdraws_the_planned_change_may_sign(two: Company) -> None:
    assert two.amend("a1", "one", TENTH, "usage").accepted
    assert twice(two, two.lifecycle.withdraw_amendment, "a1").accepted
    two.sign("anna", "usage", subscription_id="three", starts_on=date(2026, 1, 5))
    two.use("anna", "2026-01-15", 1000)
    two.live("2026-02-06")
    assert billed(two, "one", "three") == [("three", 1000)]
    assert two.sql("select outcome from agenda where cause = 'a1'") == [("withdrawn",)]
    assert two.lifecycle.amend("a1").scheduled  # The first answer again, and nothing else.
    assert two.sql("select count(*) from subscription_terms where subscription_id = 'one'") == [(1,)]


def test_what_was_planned_in_spite_of_it_happens_to_one_of_them(two: Company) -> None:
    """As it could be planned before this was looked at. A person gets to know, and billing goes on."""
    two.amend("a1", "one", TENTH, "usage")
    two.sql("update agenda set subject = 'subscription/nobody' where cause = 'a1'")
    assert two.amend("a2", "two", TENTH, "usage").accepted
    two.sql("update agenda set subject = 'subscription/one' where cause = 'a1'")
    two.use("anna", "2026-01-15", 1000)
    two.live("2026-02-06")
    assert [quantity for _, quantity in billed(two, "one", "two")] == [1000]
    [task] = [one for one in two.open_tasks() if one[0].startswith("subscription/")]
    words = "The customer's usage would be billed twice. plan prices the meter 'tokens', as two does already."
    assert task == ("subscription/one/a1", words)
    assert two.prove("2026-01").differences == ()


def test_a_planned_move_of_a_roll_out_is_known_to_who_signs(february: Company) -> None:
    february.customer("dan")
    february.sign("dan", "fee", subscription_id="sub-one", starts_on=date(2026, 2, 1))
    february.live("2026-02-10")
    publish_version(february, "fee", {**FEE_ONLY, "items": [*FEE_ONLY["items"], TEAM["items"][2]]})
    make(february, plan_id="fee", to_plan_id="fee", on_day=date(2026, 2, 20))
    go_on(february)
    with pytest.raises(Refused, match="billed twice"):
        february.sign("dan", "usage", subscription_id="sub-three", starts_on=date(2026, 2, 12))


def test_who_is_billed_by_another_by_now_is_left_alone_when_a_roll_out_is_taken_back(february: Company) -> None:
    publish_version(february, "team", {**TEAM, "items": TEAM["items"][:2]})
    make(february, to_version=3)
    go_on(february)
    february.sign("ada", "usage", subscription_id="sub-tokens", starts_on=date(2026, 2, 12))
    february.live("2026-02-14")
    take_back(february)
    [(why,)] = february.sql("select why from rollout_member where subscription_id = 'sub-ada'")
    assert why.startswith("left alone when the roll-out was taken back: The customer's usage would be billed twice.")
    february.use("ada", "2026-02-25", 1000)
    february.live("2026-03-13")
    assert billed(february, "sub-ada", "sub-tokens") == [("sub-tokens", 1000)]


def test_usage_that_two_have_billed_all_the_same_is_found_at_the_close(two: Company) -> None:
    """As it was billed before this was looked at."""
    two.amend("a1", "one", TENTH, "usage")
    two.use("anna", "2026-01-15", 1000)
    two.live("2026-01-12")
    with two.tampering() as run:
        run(
            "insert into subscription_terms (subscription_id, version, effective_on, plan_id, plan_version, seats,"
            " discount_percent, cause) values ('two', 2, '2026-01-10', 'usage', 1, 1, 0, 'x')"
        )
        run("update subscription set terms_version = 2 where id = 'two'")
    two.live("2026-02-06")
    assert billed(two, "one", "two") == [("one", 1000), ("two", 1000)]
    assert two.prove("2026-01").differences == ("usage billed: -1000 units",)
