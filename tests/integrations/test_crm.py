"""What every CRM must do, tried over every entry of the registry and the pretended one.

Salesforce is spoken to over the wire, with its SDK, against the local server. Calls are made twice on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from billing.errors import Broken, Fault, Refused, Unavailable
from integrations.crm import Crm, Deal, DealStatus, UnreadableDeal
from integrations.crm.pretend import SAMPLE, PretendCrm
from integrations.crm.registry import CRMS, NoCrm, open_crm
from integrations.crm.salesforce import SalesforceCrm
from sandbox.salesforce import CONSUMER_KEY, USERNAME
from sandbox.salesforce.seed import salesperson, sign_deal
from sandbox.salesforce.server import SalesforceServer
from settings import Settings

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class World(Protocol):
    """What a test can bring about in a CRM. `crm` reads pages of a few deals."""

    @property
    def crm(self) -> Crm: ...
    def win(self, deal: Deal) -> str: ...
    def open(self) -> str: ...
    def spoil(self, deal_id: str) -> None: ...
    def change(self, deal_id: str) -> None: ...
    def our_changes(self) -> list[DealStatus]: ...
    def limit(self) -> None: ...
    def lose_answer(self) -> None: ...
    def strangers(self) -> list[Crm]: ...


class PretendWorld:
    def __init__(self) -> None:
        self.crm = PretendCrm()
        self.made = 0

    def win(self, deal: Deal) -> str:
        self.made += 1
        return self.crm.win(replace(deal, deal_id=f"deal_{self.made:03d}")).deal_id

    def open(self) -> str:
        return "deal_that_is_not_won"

    def spoil(self, deal_id: str) -> None:
        self.crm.win_unreadable(deal_id, Fault("plan", "It is empty."))

    def change(self, deal_id: str) -> None:
        deal = next(d for d in self.crm.closed_won(LONG_AGO) if d.deal_id == deal_id)
        assert isinstance(deal, Deal)
        self.crm.win(deal)

    def our_changes(self) -> list[DealStatus]:
        return self.crm.changed_by_us

    def limit(self) -> None:
        self.crm.fail(Unavailable("Too many requests."))

    def lose_answer(self) -> None:
        self.crm.lose_answer()

    def strangers(self) -> list[Crm]:
        stranger = PretendCrm()
        stranger.fail(Refused("Wrong key."))
        stranger.fail(Refused("Wrong key."))
        return [stranger]


class SalesforceWorld:
    def __init__(self, server: SalesforceServer, folder: Path) -> None:
        self.server = server
        self.ca_file, self.key_file = server.write_files(folder)
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

    def win(self, deal: Deal) -> str:
        street, town = deal.address.rsplit("\n", 1)
        postal_code, city = town.split(" ", 1)
        return sign_deal(
            self.sales,
            account_name=deal.account_name,
            email=deal.email,
            country=deal.country,
            time_zone=deal.time_zone,
            street=street,
            postal_code=postal_code,
            city=city,
            entity=deal.entity,
            plan=deal.plan,
            seats=deal.seats,
            starts_on=deal.starts_on,
            currency=deal.currency,
            vat_id=deal.vat_id,
            discount_percent=deal.discount_percent,
            prepaid_credit=deal.prepaid_credit,
            purchase_order=deal.purchase_order,
        )

    def update(self, deal_id: str, **values: object) -> None:
        self.sales.Opportunity.update(deal_id, values)

    def open(self) -> str:
        deal_id = self.win(SAMPLE)
        self.update(deal_id, StageName="Negotiation/Review")
        return deal_id

    def spoil(self, deal_id: str) -> None:
        self.update(deal_id, Plan__c=None)

    def change(self, deal_id: str) -> None:
        self.update(deal_id, PO_Number__c=None)

    def our_changes(self) -> list[DealStatus]:
        """Every write of ours that reached the server, also one that changed nothing."""
        records: Any = self.server.control("GET", "records/Opportunity")
        writes: Any = self.server.control("GET", "writes")
        by_id = {record["Id"]: record for record in records}
        return [
            DealStatus(
                write["id"],
                by_id[write["id"]]["Perennial_Subscription__c"],
                write["changed"].get("Perennial_Status__c", "unchanged"),
            )
            for write in writes
            if write["kind"] == "update" and not write["changed"].keys() & {"StageName", "Plan__c", "PO_Number__c"}
        ]

    def limit(self) -> None:
        self.server.control("POST", "faults", {"code": "REQUEST_LIMIT_EXCEEDED"})

    def lose_answer(self) -> None:
        self.server.control("POST", "faults", {"code": "lost_answer", "method": "PATCH"})

    def strangers(self) -> list[Crm]:
        return [
            self.client(private_key=a_key()),
            self.client(private_key="no key"),
            self.client(consumer_key="3MVG9other"),
        ]


def a_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def salesforce(tmp_path: Path) -> Iterator[SalesforceWorld]:
    with SalesforceServer() as server:
        yield SalesforceWorld(server, tmp_path)


@pytest.fixture(params=[*CRMS, "pretend"])
def world(request: pytest.FixtureRequest) -> World:
    """A CRM that is registered without a world here fails, for it would be untested."""
    if request.param == "pretend":
        return PretendWorld()
    found: World = request.getfixturevalue(request.param)
    return found


def deals(crm: Crm, since: datetime = LONG_AGO) -> list[Deal | UnreadableDeal]:
    """Read twice: the second time must say the same."""
    first = list(crm.closed_won(since))
    assert list(crm.closed_won(since)) == first
    return first


def test_a_deal_arrives_whole(world: World) -> None:
    signed = replace(
        SAMPLE,
        account_name='Müller & Söhne "O\'Hara" \\ 東京 🚀',
        address="Hof 2\nHauptstraße 1\n10115 Berlin",
        seats=Decimal("12.5"),
        discount_percent=Decimal("12.35"),
        prepaid_credit=Decimal("1000.10"),
        purchase_order="PO 'É' 7",
    )
    deal_id = world.win(signed)
    [deal] = deals(world.crm)
    assert isinstance(deal, Deal)
    assert deal.account_id and deal.crm
    expected = replace(signed, crm=deal.crm, deal_id=deal_id, account_id=deal.account_id, modified_at=deal.modified_at)
    assert deal == expected
    assert deal.modified_at.utcoffset() == timedelta(0)


def test_optional_facts_may_be_missing(world: World) -> None:
    world.win(replace(SAMPLE, vat_id=None, purchase_order=None))
    [deal] = deals(world.crm)
    assert isinstance(deal, Deal)
    assert (deal.vat_id, deal.purchase_order) == (None, None)


def test_only_won_deals_come(world: World) -> None:
    world.open()
    won = world.win(SAMPLE)
    assert [deal.deal_id for deal in deals(world.crm)] == [won]


def test_all_pages_in_order_of_change(world: World) -> None:
    made = [world.win(replace(SAMPLE, account_name=f"Customer {n}")) for n in range(25)]
    world.change(made[3])
    found = deals(world.crm)
    assert [deal.deal_id for deal in found] == [*made[:3], *made[4:], made[3]]
    assert [deal.modified_at for deal in found] == sorted(deal.modified_at for deal in found)


def test_the_watermark_is_inclusive(world: World) -> None:
    made = [world.win(SAMPLE) for _ in range(4)]
    third = deals(world.crm)[2]
    assert [deal.deal_id for deal in deals(world.crm, third.modified_at)] == made[2:]
    last = deals(world.crm)[-1].modified_at
    assert deals(world.crm, last + timedelta(milliseconds=1)) == []


def test_a_changed_deal_comes_again(world: World) -> None:
    deal_id = world.win(SAMPLE)
    [before] = deals(world.crm)
    world.change(deal_id)
    [after] = deals(world.crm)
    assert after.deal_id == before.deal_id
    assert after.modified_at > before.modified_at


def test_an_unreadable_deal_says_why_and_holds_up_nobody(world: World) -> None:
    first, bad, last = (world.win(SAMPLE) for _ in range(3))
    world.spoil(bad)
    world.change(last)
    found = deals(world.crm)
    assert [deal.deal_id for deal in found] == [first, bad, last]
    assert isinstance(found[1], UnreadableDeal)
    [fault] = found[1].faults
    assert "plan" in fault.field.lower()
    assert "empty" in fault.reason


def test_a_moment_without_time_zone_is_our_bug(world: World) -> None:
    with pytest.raises(Broken):
        list(world.crm.closed_won(datetime(2026, 1, 1)))  # noqa: DTZ001


def test_writing_back_twice_changes_the_deal_once(world: World) -> None:
    active = DealStatus(world.win(SAMPLE), "sub_1", "active")
    world.crm.write_back(active)
    seen = deals(world.crm)
    world.crm.write_back(active)
    assert world.our_changes() == [active]
    assert deals(world.crm) == seen  # Else the next poll would find a change, for ever.
    paused = replace(active, status="paused")
    world.crm.write_back(paused)
    world.crm.write_back(paused)
    assert world.our_changes() == [active, paused]


def test_a_lost_answer_is_repeated_without_effect(world: World) -> None:
    active = DealStatus(world.win(SAMPLE), "sub_1", "active")
    world.lose_answer()
    with pytest.raises(Unavailable):
        world.crm.write_back(active)
    world.crm.write_back(active)
    assert world.our_changes() == [active]


@pytest.mark.parametrize("deal_id", ["006000000000999AAA", "../Account/001", ""])
def test_writing_to_a_deal_that_is_gone_is_refused(world: World, deal_id: str) -> None:
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            world.crm.write_back(DealStatus(deal_id, "sub_1", "active"))
        assert refused.value.code == "not_found"
        assert refused.value.remedy


def test_a_request_limit_passes(world: World) -> None:
    active = DealStatus(world.win(SAMPLE), "sub_1", "active")
    world.limit()
    with pytest.raises(Unavailable):
        list(world.crm.closed_won(LONG_AGO))
    world.limit()
    with pytest.raises(Unavailable):
        world.crm.write_back(active)
    world.crm.write_back(active)
    assert len(deals(world.crm)) == 1
    assert world.our_changes() == [active]


def test_wrong_credentials_are_refused(world: World) -> None:
    for stranger in world.strangers():
        with pytest.raises(Refused):
            list(stranger.closed_won(LONG_AGO))
        with pytest.raises(Refused):
            stranger.write_back(DealStatus("006000000000001AAA", "sub_1", "active"))


# What only the registry has.


def settings(salesforce: SalesforceWorld) -> Settings:
    return Settings(
        salesforce_username=USERNAME,
        salesforce_consumer_key=CONSUMER_KEY,
        salesforce_private_key_file=salesforce.key_file,
        salesforce_ca_file=salesforce.ca_file,
        salesforce_connect_to=salesforce.server.address,
    )


def test_the_registry_opens_salesforce_from_the_settings(salesforce: SalesforceWorld) -> None:
    salesforce.win(SAMPLE)
    assert len(deals(open_crm("salesforce", settings(salesforce)))) == 1


def test_a_missing_setting_or_an_unknown_name_is_refused(salesforce: SalesforceWorld) -> None:
    with pytest.raises(Refused, match="private key"):
        open_crm("salesforce", settings(salesforce).model_copy(update={"salesforce_private_key_file": None}))
    with pytest.raises(Refused, match="no CRM 'sugar'"):
        open_crm("sugar", settings(salesforce))
    with pytest.raises(Refused, match="host:port"):
        salesforce.client(connect_to="localhost")


def test_no_crm_has_no_deals(salesforce: SalesforceWorld) -> None:
    nobody = open_crm("none", settings(salesforce))
    assert isinstance(nobody, NoCrm)
    assert deals(nobody) == []
    nobody.write_back(DealStatus("deal_1", "sub_1", "active"))
