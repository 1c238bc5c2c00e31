"""The salesperson: logs in to the local Salesforce and signs deals there, with simple-salesforce itself."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from requests import PreparedRequest, Session
from requests.adapters import HTTPAdapter

from sandbox.salesforce import CONSUMER_KEY, USERNAME

if TYPE_CHECKING:
    from simple_salesforce.api import Salesforce, SFType


def salesperson(address: str, ca_file: Path, private_key: str) -> Salesforce:
    """A client that is logged in. `address` is the server's host:port and `private_key` the connected app's, in PEM."""
    from simple_salesforce.api import Salesforce  # Slow to import, and only this needs it.

    session = Session()
    session.trust_env = False
    session.verify = str(ca_file)
    session.mount("https://", _Detour(address))
    return Salesforce(username=USERNAME, consumer_key=CONSUMER_KEY, privatekey=private_key, session=session)


def sign_deal(
    client: Salesforce,
    *,
    account_name: str,
    email: str,
    country: str,
    time_zone: str,
    street: str,
    postal_code: str,
    city: str,
    entity: str,
    plan: str,
    seats: Decimal | int,
    starts_on: date,
    currency: str,
    vat_id: str | None = None,
    discount_percent: Decimal | int = 0,
    prepaid_credit: Decimal | int = 0,
    purchase_order: str | None = None,
) -> str:
    """An account and its opportunity, negotiated and then won. Returns the opportunity's id.

    Every call makes a new account and a new deal.
    """
    account = _kind(client, "Account").create(
        {
            "Name": account_name,
            "Email__c": email,
            "BillingStreet": street,
            "BillingPostalCode": postal_code,
            "BillingCity": city,
            "BillingCountryCode": country,
            "Time_Zone__c": time_zone,
            "VAT_Id__c": vat_id,
        }
    )
    opportunities = _kind(client, "Opportunity")
    opportunity = opportunities.create(
        {
            "Name": f"{account_name}: {plan}",
            "AccountId": account["id"],
            "StageName": "Negotiation/Review",
            "CloseDate": starts_on.isoformat(),
            "CurrencyIsoCode": currency,
            "Plan__c": plan,
            "Seats__c": str(seats),
            "Start_Date__c": starts_on.isoformat(),
            "Discount_Percent__c": str(discount_percent),
            "Prepaid_Credit__c": str(prepaid_credit),
            "PO_Number__c": purchase_order,
            "Legal_Entity__c": entity,
        }
    )
    deal_id = str(opportunity["id"])
    opportunities.update(deal_id, {"StageName": "Closed Won"})
    return deal_id


def _kind(client: Salesforce, name: str) -> SFType:
    """`client.Account` and the like, which are made when they are asked for."""
    found: SFType = getattr(client, name)
    return found


class _Detour(HTTPAdapter):
    """Connects to `address` whatever the host, and checks the certificate for the host that was asked for."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: object, cert: object = None
    ) -> tuple[dict[str, object], dict[str, object]]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)  # type: ignore[arg-type]
        name = host["host"]
        return (
            {**host, "host": self._host, "port": self._port},
            {**tls, "assert_hostname": name, "server_hostname": name},
        )
