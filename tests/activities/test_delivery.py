"""The outbox: delivered twice, out of order, with the answer lost or the neighbour down; the effect is one."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import delivery
from activities.delivery import DeliverFor, Deliveries, Drain
from activities.onboarding import DealRef, Onboarding
from billing.errors import Refused, Unavailable
from integrations.crm import DealStatus
from integrations.crm.pretend import PretendCrm
from integrations.crm.salesforce import SalesforceCrm
from sandbox.salesforce import CONSUMER_KEY, USERNAME
from sandbox.salesforce.seed import salesperson, sign_deal
from sandbox.salesforce.server import SalesforceServer
from tests.activities.company import Company
from tests.activities.test_onboarding import DEAL, hands
from tests.activities.twice import Slow, tables, twice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLOCK = Drain("clock-acme")


@pytest.fixture
def crm() -> PretendCrm:
    return PretendCrm()


@pytest.fixture
def deliveries(company: Company, crm: PretendCrm) -> Deliveries:
    """A deal of ours runs, was activated and billed: two statuses and a document wait in the outbox."""
    company.set_clock(NOON)
    crm.win(DEAL)
    onboarding = hands(company, crm)
    onboarding.read_deals()
    opened = onboarding.open_account(DealRef("pretend", "deal_1"))
    company.lifecycle.look(opened.subscription_id)
    company.bill()
    return Deliveries(company.engine, crm)


def waiting(company: Company) -> list[tuple[Any, ...]]:
    return company.sql("select door, attempts, last_error from outbox where delivered_at is null order by created_at")


def again(company: Company) -> None:
    """As if whoever delivered had died before writing it down."""
    company.sql("update outbox set delivered_at = null, not_before = now() - interval '1 minute'")


def test_everything_of_a_clock_is_delivered_and_once_more_changes_nothing(
    company: Company, deliveries: Deliveries, crm: PretendCrm
) -> None:
    assert ActivityEnvironment().run(deliveries.drain, CLOCK) == 3
    assert crm.told["deal_1"].status == "active, terms 1"
    (document,) = company.sql("select sha256, content from document")
    again(company)
    ActivityEnvironment().run(deliveries.drain, CLOCK)
    assert company.sql("select sha256, content from document") == [document]
    assert crm.changed_by_us == [crm.told["deal_1"]]
    assert twice(company, deliveries.drain, CLOCK) == 0


def test_a_status_that_was_overtaken_is_not_told_any_more(
    company: Company, deliveries: Deliveries, crm: PretendCrm
) -> None:
    """The CRM was down for the first status; the second one got through before it."""
    company.sql("update outbox set not_before = now() + interval '1 hour' where payload ->> 'status' like 'pending%%'")
    deliveries._some("crm")
    again(company)
    deliveries._some("crm")
    assert [told.status for told in crm.changed_by_us] == ["active, terms 1"]


def test_a_status_that_changes_while_it_is_told_is_told_again(
    company: Company, deliveries: Deliveries, crm: PretendCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = crm.write_back

    def slowly(status: DealStatus) -> None:
        if not crm.changed_by_us:
            company.sql("update subscription set terms_version = 2")
        really(status)

    monkeypatch.setattr(crm, "write_back", slowly)
    deliveries._some("crm")
    assert crm.told["deal_1"].status == "active, terms 2"


def test_what_time_alone_does_not_mend_is_a_persons_task_until_it_is_delivered(
    company: Company, deliveries: Deliveries, crm: PretendCrm
) -> None:
    for _ in range(4):
        crm.fail(Refused("The deal is gone.", remedy="Restore it in the CRM."))
    for _ in range(2):
        deliveries._some("crm")
        company.sql("update outbox set not_before = now()")
    asked = company.sql("select kind, entity_id, opened_at, reason, remedy from task where answered_at is null")
    assert len(asked) == 2
    for kind, entity_id, opened_at, reason, remedy in asked:
        assert (kind, entity_id, opened_at) == ("delivery", "acme", NOON)
        assert reason.startswith("Not delivered to crm (deal_id deal_1, ") and reason.endswith(": The deal is gone.")
        assert remedy.startswith("Restore it in the CRM. It is tried again")
    deliveries._some("crm")
    assert [door for door, *_ in waiting(company)] == ["documents"] and company.open_tasks() == []
    assert company.sql("select distinct answer from task") == [("delivered",)]


def test_an_outage_delays_and_holds_up_neither_the_clock_nor_the_other_door(
    company: Company, deliveries: Deliveries, crm: PretendCrm
) -> None:
    for _ in range(2):
        crm.fail(Unavailable("maintenance"))
    ActivityEnvironment().run(deliveries.drain, CLOCK)
    assert waiting(company) == [("crm", 1, "Unavailable: maintenance")] * 2
    assert company.sql("select count(*) from document") == [(1,)]
    company.sql("update outbox set not_before = now()")
    crm.lose_answer()
    deliveries._some("crm")
    company.sql("update outbox set not_before = now()")
    deliveries._some("crm")
    assert waiting(company) == []
    assert len(crm.changed_by_us) == 1


def test_a_document_is_rendered_again_after_its_answer_was_lost_and_kept_once(
    company: Company, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[bytes] = []
    really = delivery.render_invoice

    def dying(document: Any) -> bytes:
        rendered.append(really(document))
        if len(rendered) == 1:
            raise MemoryError("killed while printing")
        return rendered[-1]

    monkeypatch.setattr(delivery, "render_invoice", dying)
    for _ in range(2):
        company.sql("update outbox set not_before = now() where delivered_at is null")
        deliveries._some("documents")
    assert len(rendered) == 2 and rendered[0] == rendered[1]
    assert company.sql("select count(*) from document") == [(1,)]


def test_a_courier_works_its_shift_with_a_beating_heart(
    company: Company, deliveries: Deliveries, crm: PretendCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(crm.write_back)
    monkeypatch.setattr(crm, "write_back", slow)
    assert slow.run(deliveries.deliver, DeliverFor("crm", 0.1)) == 2
    before = tables(company)
    assert ActivityEnvironment().run(deliveries.deliver, DeliverFor("crm", 0.1)) == 0
    assert tables(company) == before


def test_over_the_wire_deals_come_in_and_statuses_go_back_once(company: Company, tmp_path: Path) -> None:
    """The same with Salesforce's SDK against the local Salesforce, answers lost both ways."""
    company.set_clock(NOON)
    server = SalesforceServer()
    server.start()
    try:
        ca_file, _ = server.write_files(tmp_path)
        sales = salesperson(server.address, ca_file, server.private_key_pem)
        deal_id = sign_deal(
            sales,
            account_name="Acme GmbH",
            email="b@acme.example",
            country="DE",
            time_zone="Europe/Berlin",
            street="Weg 1",
            postal_code="10115",
            city="Berlin",
            entity="acme",
            plan="team",
            seats=1,
            starts_on=date(2026, 1, 1),
            currency="EUR",
        )
        sales.session.close()
        crm = SalesforceCrm(
            domain="login",
            username=USERNAME,
            consumer_key=CONSUMER_KEY,
            private_key=server.private_key_pem,
            ca_file=ca_file,
            connect_to=server.address,
        )
        onboarding: Onboarding = hands(company, crm, "salesforce")
        server.control("POST", "faults", {"code": "lost_answer", "method": "GET"})
        with pytest.raises(Unavailable):
            onboarding.read_deals()
        assert twice(company, onboarding.read_deals).read == 1
        opened = twice(company, onboarding.open_account, DealRef("salesforce", deal_id))
        deliveries = Deliveries(company.engine, crm)
        server.control("POST", "faults", {"code": "lost_answer", "method": "PATCH"})
        for _ in range(2):
            deliveries._some("crm")
            company.sql("update outbox set not_before = now() where delivered_at is null")
        assert waiting(company) == []
        (record,) = [r for r in _records(server) if r["Id"] == deal_id]
        assert record["Perennial_Subscription__c"] == opened.subscription_id
        modified = record["SystemModstamp"]
        again(company)
        deliveries._some("crm")
        (record,) = [r for r in _records(server) if r["Id"] == deal_id]
        assert record["SystemModstamp"] == modified
    finally:
        server.stop()


def _records(server: SalesforceServer) -> Any:
    return server.control("GET", "records/Opportunity")
