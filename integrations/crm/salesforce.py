"""Salesforce as the CRM, through simple-salesforce: won opportunities come in, a subscription's id and status go back.

Salesforce's own words stay in this file: its fields, its query language, its error codes. Polling by
`SystemModstamp` needs nothing to be installed in the organisation but the custom fields named in `_QUERY` and
`_OURS`. Login is OAuth 2.0 JWT bearer, so no password is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from threading import local
from typing import Any
from zoneinfo import available_timezones

from jwt import PyJWTError
from requests import PreparedRequest, RequestException, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import SSLError
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

from billing.countries import COUNTRIES
from billing.errors import Broken, Fault, Refused, Unavailable
from billing.money import CURRENCIES, Money
from integrations.crm import Deal, DealStatus, UnreadableDeal

_QUERY = (
    "SELECT Id, SystemModstamp, AccountId, CurrencyIsoCode, Plan__c, Seats__c, Start_Date__c, Discount_Percent__c, "
    "Prepaid_Credit__c, PO_Number__c, Legal_Entity__c, Account.Name, Account.Email__c, Account.BillingCountryCode, "
    "Account.BillingStreet, Account.BillingPostalCode, Account.BillingCity, Account.Time_Zone__c, Account.VAT_Id__c "
    "FROM Opportunity WHERE StageName = 'Closed Won' AND SystemModstamp >= {since} ORDER BY SystemModstamp, Id"
)
_OURS = ("Perennial_Subscription__c", "Perennial_Status__c")
_TIMEOUT = (5, 60)  # Seconds to connect, and between two bytes of an answer: a large query is slow to begin.


class SalesforceCrm:
    """One Salesforce organisation. Made without a call; each thread logs in when it first needs to.

    `domain` is 'login', 'test' or the My Domain prefix (`acme.my`); `private_key` is PEM text. `ca_file` is trusted
    instead of the public authorities, and `connect_to` (host:port) is where every host of salesforce.com is then
    sought; both are for a local server, and the certificate is checked for Salesforce's name all the same.
    """

    name = "salesforce"

    def __init__(
        self,
        *,
        domain: str,
        username: str,
        consumer_key: str,
        private_key: str,
        ca_file: Path | None = None,
        connect_to: str | None = None,
        page_size: int = 2000,
    ) -> None:
        self._domain = domain
        self._username = username
        self._consumer_key = consumer_key
        self._private_key = private_key
        self._ca_file = ca_file
        self._connect_to = _host_and_port(connect_to) if connect_to else None
        self._page_size = page_size
        self._thread = local()

    def closed_won(self, since: datetime) -> Iterator[Deal | UnreadableDeal]:
        """As the protocol says. Salesforce counts milliseconds, so `since` is taken down to one."""
        if since.tzinfo is None:
            raise Broken(f"{since} names no moment: it has no time zone")
        moment = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with _in_our_words():
            for record in self._client().query_all_iter(_QUERY.format(since=moment)):
                yield _read(self.name, record)

    def write_back(self, status: DealStatus) -> None:
        """As the protocol says. It looks before it writes: to Salesforce, writing the same values is a change.

        The deal would come in again with the next poll, be written again, and so for ever.
        """
        if not re.fullmatch(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?", status.deal_id):
            raise Refused(f"{status.deal_id!r} is not the id of an opportunity.", code="not_found", remedy=_NOT_FOUND)
        path = f"sobjects/Opportunity/{status.deal_id}"
        wanted = dict(zip(_OURS, (status.subscription_id, status.status), strict=True))
        with _in_our_words():
            client = self._client()
            present = client.restful(path, params={"fields": ",".join(_OURS)}) or {}
            if any(present.get(field) != value for field, value in wanted.items()):
                client.restful(path, method="PATCH", json=wanted)

    def _client(self) -> Salesforce:
        """This thread's client, logged in. It logs in again by itself when Salesforce ends its session."""
        client: Salesforce | None = getattr(self._thread, "client", None)
        if client is None:
            client = self._thread.client = self._log_in()
        return client

    def _log_in(self) -> Salesforce:
        session = Session()
        session.trust_env = self._connect_to is None
        session.headers["Sforce-Query-Options"] = f"batchSize={self._page_size}"
        session.mount("https://", _Line(self._connect_to, self._ca_file))
        try:
            return Salesforce(
                username=self._username,
                consumer_key=self._consumer_key,
                privatekey=self._private_key,
                domain=self._domain,
                session=session,
                parse_float=Decimal,
            )
        except PyJWTError as error:
            raise Refused(
                "The private key of the connected app cannot be used to sign.",
                code="crm_login_refused",
                remedy="Give the RSA private key of the connected app's certificate, as PEM.",
            ) from error
        except AttributeError as error:  # The library expects an object, and got a list or nothing.
            raise Unavailable("Salesforce answered the login with something that is no answer to it.") from error


class _Line(HTTPAdapter):
    """The line to Salesforce: it has timeouts, may lead elsewhere, and tells at once when the far end cannot serve."""

    def __init__(self, connect_to: tuple[str, int] | None, ca_file: Path | None) -> None:
        self._connect_to = connect_to
        self._ca_file = ca_file
        super().__init__()

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        options["timeout"] = options.get("timeout") or _TIMEOUT
        if self._ca_file is not None:
            options["verify"] = str(self._ca_file)
        response = super().send(request, *args, **options)
        if response.status_code >= 500 or response.status_code == 429:
            response.close()
            wish = response.headers.get("Retry-After", "")
            after = timedelta(seconds=int(wish)) if wish.isdigit() else None
            raise Unavailable(f"Salesforce answered {response.status_code} {response.reason}", after=after)
        return response

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        name = str(host["host"])
        if self._connect_to is None or not name.endswith(".salesforce.com"):
            return host, tls
        address, port = self._connect_to
        return host | {"host": address, "port": port}, tls | {"assert_hostname": name, "server_hostname": name}


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise Refused(f"{text!r} is not host:port.", code="crm_settings", remedy="Write it like 127.0.0.1:8443.")
    return host, int(port)


# Reading a deal: everything that is wrong with it is noted, not only the first thing.


def _read(crm: str, record: Mapping[str, object]) -> Deal | UnreadableDeal:
    facts = _Facts(record)
    deal_id, modified_at = str(record["Id"]), datetime.fromisoformat(str(record["SystemModstamp"]))
    currency = facts.choice("Opportunity.CurrencyIsoCode", CURRENCIES, "an ISO 4217 currency such as EUR")
    deal = Deal(
        crm=crm,
        deal_id=deal_id,
        modified_at=modified_at,
        account_id=facts.text("Opportunity.AccountId", "the account that signed"),
        account_name=facts.text("Account.Name", "the customer's legal name"),
        email=facts.text("Account.Email__c", "the address that invoices go to", r"[^@\s]+@[^@\s]+\.[^@\s]+"),
        country=facts.choice("Account.BillingCountryCode", COUNTRIES, "an ISO 3166 code of two capitals, such as DE"),
        time_zone=facts.choice("Account.Time_Zone__c", _time_zones(), "an IANA time zone such as Europe/Berlin"),
        vat_id=facts.optional_text("Account.VAT_Id__c"),
        address=facts.address(),
        entity=facts.text("Opportunity.Legal_Entity__c", "the legal entity of ours that sells"),
        plan=facts.text("Opportunity.Plan__c", "the plan that was sold"),
        seats=facts.number("Opportunity.Seats__c", "how many seats were sold, 0 or more"),
        starts_on=facts.day("Opportunity.Start_Date__c", "the first day of service"),
        currency=currency,
        discount_percent=facts.number("Opportunity.Discount_Percent__c", "from 0 to 100, or empty", most=100, empty=0),
        prepaid_credit=facts.credit("Opportunity.Prepaid_Credit__c", currency),
        purchase_order=facts.optional_text("Opportunity.PO_Number__c"),
    )
    return UnreadableDeal(crm, deal_id, modified_at, tuple(facts.faults)) if facts.faults else deal


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


class _Facts:
    """The fields of one record, by `Object.Field`. What is missing or wrong becomes a fault and a blank value."""

    def __init__(self, record: Mapping[str, object]) -> None:
        self.faults: list[Fault] = []
        account = record.get("Account")
        self._values = {f"Opportunity.{name}": value for name, value in record.items()}
        self._account_is_there = isinstance(account, Mapping)
        if isinstance(account, Mapping):
            self._values |= {f"Account.{name}": value for name, value in account.items()}
        elif record.get("AccountId"):
            self.faults.append(
                Fault("Opportunity.AccountId", "The account is hidden from our user; share it with that user.")
            )

    def text(self, field: str, meaning: str, pattern: str = ".+") -> str:
        value = self.optional_text(field) or ""
        if not re.fullmatch(pattern, value, re.DOTALL):
            self._wrong(field, meaning)
        return value

    def optional_text(self, field: str) -> str | None:
        value = self._values.get(field)
        return value.strip() or None if isinstance(value, str) else None

    def choice(self, field: str, known: frozenset[str], meaning: str) -> str:
        value = self.optional_text(field) or ""
        if value not in known:
            self._wrong(field, meaning)
        return value

    def address(self) -> str:
        """As on an envelope: the street's lines, then postal code and city. Some countries have no postal codes."""
        street = self.text("Account.BillingStreet", "the street and number for invoices")
        city = self.text("Account.BillingCity", "the city for invoices")
        code = self.optional_text("Account.BillingPostalCode") or ""
        lines = [*street.splitlines(), f"{code} {city}"]
        return "\n".join(line.strip() for line in lines if line.strip())

    def day(self, field: str, meaning: str) -> date:
        try:
            return date.fromisoformat(self.optional_text(field) or "")
        except ValueError:
            self._wrong(field, meaning)
            return date.min

    def number(self, field: str, meaning: str, *, most: int | None = None, empty: int | None = None) -> Decimal:
        value = self._values.get(field)
        if value is None and empty is not None:
            return Decimal(empty)
        # JSON's true is an int to Python, and a float here would be a NaN: all other numbers come as Decimal or int.
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= (most or value):
            self._wrong(field, meaning)
            return Decimal(0)
        number = Decimal(value)
        return number.to_integral_value() if number == number.to_integral_value() else number  # 25.0 is 25 seats.

    def credit(self, field: str, currency: str) -> Decimal:
        meaning = f"an amount of {currency or 'money'}, 0 or more and with no more decimals than it has, or empty"
        credit = self.number(field, meaning, empty=0)
        try:
            Money.of(credit, currency)
        except Refused as refused:
            if refused.code == "too_many_decimals":
                self._wrong(field, meaning)
        return credit

    def _wrong(self, field: str, meaning: str) -> None:
        """Without an account one fault says so; its fields are not complained about one by one."""
        if field.startswith("Account.") and not self._account_is_there:
            return
        value = self._values.get(field)
        problem = "It is empty" if value in (None, "") else f"{value!r} cannot be used"
        # Only a change of the opportunity brings the deal in again, not one of its account.
        again = ", then save the opportunity again" if field.startswith("Account.") else ""
        self.faults.append(Fault(field, f"{problem}; enter {meaning}{again}."))


# What Salesforce complains about, in our words. It is the error code that tells, not the HTTP status.

_PASSES = frozenset(
    "UNABLE_TO_LOCK_ROW REQUEST_LIMIT_EXCEEDED SERVER_UNAVAILABLE QUERY_TIMEOUT INVALID_QUERY_LOCATOR "
    "UNKNOWN_EXCEPTION".split()
)
_GONE = frozenset("NOT_FOUND ENTITY_IS_DELETED MALFORMED_ID INVALID_CROSS_REFERENCE_KEY".split())
_FIELD = frozenset("INVALID_FIELD INVALID_FIELD_FOR_INSERT_UPDATE".split())
_NOT_FOUND = "See whether the opportunity was deleted or merged, or is hidden from our user in Salesforce."
_CUSTOM_FIELD = (
    "Create this field in Salesforce (Setup, Object Manager) and let our user see and edit it. CurrencyIsoCode "
    "comes with 'multiple currencies', BillingCountryCode with 'state and country picklists'."
)
_LOGIN = {
    "invalid_client_id": "Check the consumer key of the connected app.",
    "invalid_grant": "Check the user name, that an administrator approved the connected app for this user, and that "
    "the app holds the certificate of our private key.",
}


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Turns whatever the library raises into Refused or Unavailable."""
    try:
        yield
    except SalesforceAuthenticationFailed as error:
        raise _no_login(error) from error
    except SalesforceError as error:
        raise _no(error) from error
    except SSLError as error:
        # The first is what OpenSSL finds, the second a name that does not match.
        if not re.search("CERTIFICATE_VERIFY_FAILED|CertificateError", str(error)):
            raise Unavailable("The connection to Salesforce broke off.") from error
        raise Refused(
            f"Salesforce's certificate is not trusted: {error}",
            code="crm_certificate",
            remedy="Name the authority that signed it in SALESFORCE_CA_FILE, and check SALESFORCE_DOMAIN.",
        ) from error
    except RequestException as error:
        raise Unavailable(f"Salesforce cannot be reached: {type(error).__name__}") from error


def _no_login(error: SalesforceAuthenticationFailed) -> Refused | Unavailable:
    code, message = str(error.code), str(error.auth_message)
    passing = code in ("server_error", "temporarily_unavailable", "unknown_error")
    if passing or "rate exceeded" in message.lower():
        return Unavailable(f"Salesforce does not let us log in now: {message}")
    return Refused(
        f"Salesforce refused the login: {code}, {message}.",
        code="crm_login_refused",
        remedy=_LOGIN.get(code, "Check the settings of the connected app."),
    )


def _no(error: SalesforceError) -> Refused | Unavailable:
    code, message, fields = _complaint(error.content)
    if code in _PASSES:
        return Unavailable(f"Salesforce: {message} ({code})")
    if code in _GONE:
        return Refused(f"Salesforce has no such opportunity: {message}.", code="not_found", remedy=_NOT_FOUND)
    if code in _FIELD:
        named = re.search(r"No such column '(\w+)' on (?:entity|sobject of type) '?(\w+)", message)
        missing = (f"{named[2]}.{named[1]}",) if named else tuple(f"Opportunity.{field}" for field in fields)
        faults = [Fault(field, "Salesforce does not have this field, or hides it from our user.") for field in missing]
        reason = f"Salesforce does not let us use {', '.join(missing) or 'a field'}."
        return Refused(reason, code="crm_field_missing", faults=faults, remedy=_CUSTOM_FIELD)
    return Refused(
        f"Salesforce refused: {code}, {message}.",
        code="crm_refused",
        remedy="Check what the connected app and our user are allowed to do in Salesforce.",
    )


def _complaint(content: object) -> tuple[str, str, tuple[str, ...]]:
    """Code, message and fields of the first error; the documented shape is a JSON list."""
    match content:
        case [{"errorCode": str(code), "message": str(message), **more}, *_]:
            named = more.get("fields")
            return code, message, tuple(map(str, named)) if isinstance(named, list) else ()
    return "unknown", str(content)[:200], ()
