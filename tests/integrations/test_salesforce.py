"""What is Salesforce's alone: sessions, pages, field names, certificates and errors, with its SDK over the wire.

What every CRM must do is in `test_crm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from billing.errors import Refused, Unavailable
from integrations.crm import Deal, DealStatus, UnreadableDeal
from integrations.crm.salesforce import SalesforceCrm
from sandbox.salesforce import CONSUMER_KEY, USERNAME
from sandbox.salesforce.seed import salesperson, sign_deal
from sandbox.salesforce.server import SalesforceServer

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Organisation:
    """A local Salesforce with a salesperson in it, and our way in, which reads pages of four."""

    def __init__(self, server: SalesforceServer, folder: Path) -> None:
        self.server = server
        self.ca_file, _ = server.write_files(folder)
        self.crm = self.client(page_size=4)
        self.sales: Any = salesperson(server.address, self.ca_file, server.private_key_pem)

    def client(self, **changes: Any) -> SalesforceCrm:
        settings: dict[str, Any] = {
            "domain": "login",
            "username": USERNAME,
            "consumer_key": CONSUMER_KEY,
            "private_key": self.server.private_key_pem,
            "ca_file": self.ca_file,
            "connect_to": self.server.address,
        }
        return SalesforceCrm(**(settings | changes))

    def win(self) -> str:
        return sign_deal(
            self.sales,
            account_name="Acme GmbH",
            email="billing@acme.example",
            country="DE",
            time_zone="Europe/Berlin",
            street="Hauptstraße 1",
            postal_code="10115",
            city="Berlin",
            entity="de",
            plan="team",
            seats=25,
            starts_on=date(2027, 2, 28),
            currency="EUR",
        )

    def read(self) -> list[Deal | UnreadableDeal]:
        """Twice: the second time must say the same."""
        found = list(self.crm.closed_won(LONG_AGO))
        assert list(self.crm.closed_won(LONG_AGO)) == found
        return found

    def update(self, deal_id: str, **values: object) -> None:
        self.sales.Opportunity.update(deal_id, values)

    def fault(self, code: str, **where: object) -> None:
        self.server.control("POST", "faults", {"code": code, **where})

    def expire_sessions(self) -> None:
        self.server.control("POST", "expire_sessions")

    def written_back(self) -> list[str]:
        """The deals of our writes in their order, also of such as changed nothing."""
        writes: Any = self.server.control("GET", "writes")
        ours = (w for w in writes if w["kind"] == "update" and w["changed"].keys() != {"StageName"})
        return [write["id"] for write in ours]


@pytest.fixture
def salesforce(tmp_path: Path) -> Iterator[Organisation]:
    with SalesforceServer() as server:
        yield Organisation(server, tmp_path)


def test_an_ended_session_is_renewed(salesforce: Organisation) -> None:
    made = [salesforce.win() for _ in range(6)]
    reading = salesforce.crm.closed_won(LONG_AGO)
    assert next(reading).deal_id == made[0]
    salesforce.expire_sessions()
    assert [deal.deal_id for deal in reading] == made[1:]
    for _ in range(2):
        salesforce.expire_sessions()
        salesforce.crm.write_back(DealStatus(made[0], "sub_1", "active"))
    assert salesforce.written_back() == [made[0]]


def test_pages_are_fetched_when_they_are_needed(salesforce: Organisation) -> None:
    for _ in range(5):
        salesforce.win()
    reading = salesforce.crm.closed_won(LONG_AGO)
    next(reading)
    salesforce.fault("unavailable", path="/query/.+")
    with pytest.raises(Unavailable):
        list(reading)
    assert len(salesforce.read()) == 5


@pytest.mark.parametrize("code", ["UNABLE_TO_LOCK_ROW", "REQUEST_LIMIT_EXCEEDED", "unavailable"])
def test_time_helps_with_locks_limits_and_outages(salesforce: Organisation, code: str) -> None:
    active = DealStatus(salesforce.win(), "sub_1", "active")
    salesforce.fault(code, method="PATCH", count=2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            salesforce.crm.write_back(active)
    salesforce.crm.write_back(active)
    assert salesforce.written_back() == [active.deal_id]


def test_an_outage_of_the_login_passes(salesforce: Organisation) -> None:
    salesforce.fault("unavailable", path="/oauth2/token")
    with pytest.raises(Unavailable, match="503"):
        list(salesforce.crm.closed_won(LONG_AGO))
    assert salesforce.read() == []


def test_every_wrong_field_is_named_with_what_to_enter(salesforce: Organisation) -> None:
    deal_id = salesforce.win()
    [deal] = salesforce.read()
    assert isinstance(deal, Deal)
    salesforce.sales.Account.update(
        deal.account_id,
        {"Email__c": "nobody", "BillingCountryCode": "Germany", "Time_Zone__c": "Berlin", "BillingCity": None},
    )
    wrong = {"Seats__c": -1, "Discount_Percent__c": 100.5, "Start_Date__c": None, "Legal_Entity__c": " "}
    salesforce.update(deal_id, CurrencyIsoCode="EUR", Prepaid_Credit__c=0.001, **wrong)
    [unreadable] = salesforce.read()
    assert isinstance(unreadable, UnreadableDeal)
    assert {fault.field for fault in unreadable.faults} == {
        "Account.Email__c", "Account.BillingCountryCode", "Account.Time_Zone__c", "Account.BillingCity",
        "Opportunity.Prepaid_Credit__c", *(f"Opportunity.{field}" for field in wrong),
    }  # fmt: skip
    assert all("enter " in fault.reason for fault in unreadable.faults)
    assert all(("save the opportunity" in f.reason) == f.field.startswith("Account.") for f in unreadable.faults)


def test_an_unknown_currency_and_a_missing_account_are_two_faults(salesforce: Organisation) -> None:
    deal_id = salesforce.win()
    salesforce.update(deal_id, CurrencyIsoCode="ZZZ", AccountId=None)
    [unreadable] = salesforce.read()
    assert isinstance(unreadable, UnreadableDeal)
    assert [fault.field for fault in unreadable.faults] == ["Opportunity.CurrencyIsoCode", "Opportunity.AccountId"]


def test_empty_discount_and_credit_are_zero(salesforce: Organisation) -> None:
    deal_id = salesforce.win()
    salesforce.update(deal_id, Discount_Percent__c=None, Prepaid_Credit__c=None)
    [deal] = salesforce.read()
    assert isinstance(deal, Deal)
    assert (deal.discount_percent, deal.prepaid_credit) == (Decimal(0), Decimal(0))
    assert (deal.starts_on, str(deal.seats)) == (date(2027, 2, 28), "25")


def test_a_missing_custom_field_is_named(salesforce: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The organisation has not got the field; here the other way round: we ask for one that it has not got."""
    active = DealStatus(salesforce.win(), "sub_1", "active")
    monkeypatch.setattr("integrations.crm.salesforce._QUERY", "SELECT Id, Account.Tier__c FROM Opportunity")
    monkeypatch.setattr("integrations.crm.salesforce._OURS", ("Perennial_Sub__c", "SystemModstamp"))
    with pytest.raises(Refused) as reading:
        list(salesforce.crm.closed_won(LONG_AGO))
    with pytest.raises(Refused) as writing:
        salesforce.crm.write_back(active)
    for refused, field in ((reading, "Account.Tier__c"), (writing, "Opportunity.Perennial_Sub__c")):
        assert refused.value.code == "crm_field_missing"
        assert [fault.field for fault in refused.value.faults] == [field]
        assert "Object Manager" in refused.value.remedy
    monkeypatch.setattr("integrations.crm.salesforce._OURS", ("SystemModstamp", "Perennial_Status__c"))
    with pytest.raises(Refused) as read_only:
        salesforce.crm.write_back(active)
    assert [fault.field for fault in read_only.value.faults] == ["Opportunity.SystemModstamp"]


def test_the_certificate_is_checked_for_the_public_name(salesforce: Organisation, tmp_path: Path) -> None:
    unknown_host = salesforce.client(domain="other.my")
    with SalesforceServer() as other:
        ca_file, _ = other.write_files(tmp_path / "other")
        for untrusted in (unknown_host, salesforce.client(ca_file=ca_file)):
            for _ in range(2):
                with pytest.raises(Refused) as refused:
                    list(untrusted.closed_won(LONG_AGO))
                assert refused.value.code == "crm_certificate"


def test_a_server_that_is_gone_is_unavailable(salesforce: Organisation) -> None:
    assert salesforce.read() == []
    salesforce.server.stop()
    for crm in (salesforce.crm, salesforce.client()):
        for _ in range(2):
            with pytest.raises(Unavailable):
                list(crm.closed_won(LONG_AGO))


def test_a_user_that_the_app_is_not_approved_for_is_refused(salesforce: Organisation) -> None:
    stranger = salesforce.client(username="stranger@acme.example")
    with pytest.warns(UserWarning, match="authorize"), pytest.raises(Refused) as refused:
        list(stranger.closed_won(LONG_AGO))
    assert "approved" in refused.value.remedy


def test_several_threads_share_one_crm(salesforce: Organisation) -> None:
    statuses = [DealStatus(salesforce.win(), f"sub_{n}", "active") for n in range(6)]
    threads = [Thread(target=salesforce.crm.write_back, args=(status,)) for status in statuses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(salesforce.written_back()) == [status.deal_id for status in statuses]
