"""Reading the CRM and opening accounts: all of it twice, with outages between and deals that make no sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from temporalio.client import Client

from activities.onboarding import DealRef, Intake, Onboarding
from billing.errors import Broken, Fault, Refused, Unavailable
from integrations.crm import Crm
from integrations.crm.pretend import SAMPLE, PretendCrm
from tests.activities.company import Company
from tests.activities.twice import Slow, tables, twice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEAL = replace(SAMPLE, entity="acme", plan="team", starts_on=date(2026, 1, 1), seats=Decimal(1))
REF = DealRef("pretend", "deal_1")


def hands(company: Company, crm: Crm, name: str = "pretend") -> Onboarding:
    """Without a way to Temporal: nothing here starts a workflow."""
    return Onboarding(company.engine, name, crm, cast(Client, None))


@pytest.fixture
def crm(company: Company) -> PretendCrm:
    company.set_clock(NOON)
    return PretendCrm()


def test_reading_twice_keeps_each_deal_once_and_opening_twice_opens_one_account(
    company: Company, crm: PretendCrm
) -> None:
    crm.win(DEAL)
    onboarding = hands(company, crm)
    assert twice(company, onboarding.read_deals) == Intake(1, 0)
    opened = twice(company, onboarding.open_account, REF)
    assert company.counts(["customer", "contract", "subscription"]) == {
        "customer": 1,
        "contract": 1,
        "subscription": 1,
    }
    assert company.sql("select payload ->> 'subscription_id' from outbox where door = 'crm'") == [
        (opened.subscription_id,)
    ]


@pytest.mark.parametrize("by_alias", [True, False])
def test_a_deal_of_an_account_that_is_known_is_its_customers(
    company: Company, crm: PretendCrm, *, by_alias: bool
) -> None:
    """Usage that arrives under the account's id stays that customer's, and is billed by the new subscription."""
    known = "known" if by_alias else DEAL.account_id
    company.customer(known)
    if by_alias:
        company.sql("insert into customer_alias values (%s, 'known')", DEAL.account_id)
    crm.win(DEAL)
    onboarding = hands(company, crm)
    onboarding.read_deals()
    opened = twice(company, onboarding.open_account, REF)
    assert opened.customer_id == known
    assert company.sql("select customer_id from subscription") == [(known,)]
    assert company.counts(["customer"]) == {"customer": 1}


def test_an_accepted_deal_stays_as_it_was_whatever_the_crm_says_later(company: Company, crm: PretendCrm) -> None:
    crm.win(DEAL)
    onboarding = hands(company, crm)
    onboarding.read_deals()
    opened = onboarding.open_account(REF)
    for later in (replace(DEAL, seats=Decimal(50)), replace(DEAL, plan="gold")):
        crm.win(later)
        onboarding.read_deals()
        assert onboarding.open_account(REF) == opened
    crm.win_unreadable("deal_1", Fault("Plan__c", "is empty"))
    onboarding.read_deals()
    assert onboarding.open_account(REF) == opened
    assert company.sql("select seats from subscription_terms") == [(1,)]


def test_a_crm_that_fails_on_the_way_is_read_again_from_where_it_was(company: Company, crm: PretendCrm) -> None:
    crm.win(DEAL)
    crm.fail(Unavailable("down"))
    onboarding = hands(company, crm)
    before = tables(company)
    with pytest.raises(Unavailable):
        onboarding.read_deals()
    assert tables(company) == before
    assert onboarding.read_deals() == Intake(1, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "gold"}, "no plan 'gold'"),
        ({"entity": "nobody"}, "no legal entity 'nobody'"),
        ({"currency": "USD"}, "is in USD"),
        ({"seats": Decimal("1.5")}, "cannot be run"),
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason_and_writes_nothing(
    company: Company, crm: PretendCrm, change: dict[str, Any], said: str
) -> None:
    crm.win(replace(DEAL, **change))
    onboarding = hands(company, crm)
    onboarding.read_deals()
    before = tables(company)
    for _ in range(2):
        with pytest.raises(Refused, match=said):
            onboarding.open_account(REF)
    assert tables(company) == before


def test_a_deal_that_became_unreadable_after_it_was_handed_over_is_refused_by_its_faults(
    company: Company, crm: PretendCrm
) -> None:
    crm.win(replace(DEAL, plan="gold"))
    onboarding = hands(company, crm)
    onboarding.read_deals()
    crm.win_unreadable("deal_1", Fault("Plan__c", "is empty"))
    assert twice(company, onboarding.read_deals) == Intake(1, 1)
    with pytest.raises(Refused, match="Plan__c: is empty"):
        onboarding.open_account(REF)
    assert [subject for subject, _ in company.open_tasks()] == ["deal/pretend/deal_1"]
    crm.win(DEAL)
    onboarding.read_deals()
    assert company.open_tasks() == []
    onboarding.open_account(REF)


def test_a_deal_that_is_not_in_the_inbox_is_our_own_fault(company: Company, crm: PretendCrm) -> None:
    with pytest.raises(Broken):
        hands(company, crm).open_account(REF)


def test_the_heart_beats_while_the_crm_is_slow(
    company: Company, crm: PretendCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    crm.win(DEAL)
    slow = Slow(crm.closed_won)
    monkeypatch.setattr(crm, "closed_won", slow)
    assert slow.run(hands(company, crm).read_deals) == Intake(1, 0)
