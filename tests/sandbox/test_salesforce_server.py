"""The local Salesforce behaves like the real one: asked with simple-salesforce, unchanged, over the wire."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from simple_salesforce.exceptions import SalesforceError

from sandbox.salesforce import CONSUMER_KEY, LOGIN_HOST, USERNAME
from sandbox.salesforce.seed import salesperson, sign_deal
from sandbox.salesforce.server import SalesforceServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SalesforceServer]:
    with SalesforceServer(daily_requests=200) as server:
        server.write_files(tmp_path)
        yield server


@pytest.fixture
def sales(server: SalesforceServer, tmp_path: Path) -> Any:
    """A simple-salesforce client that is logged in."""
    return salesperson(server.address, tmp_path / "ca.pem", server.private_key_pem)


def refusal(call: Callable[[], object]) -> tuple[int, str, str]:
    """HTTP status, error code and message of the one error; the answer must be a JSON list."""
    with pytest.raises(SalesforceError) as refused:
        call()
    content: Any = refused.value.content
    [error] = content
    return refused.value.status, error["errorCode"], error["message"]


def accounts(sales: Any, count: int) -> list[str]:
    return [sales.Account.create({"Name": f"Customer {n:02d}", "BillingCity": "Bonn"})["id"] for n in range(count)]


def names(sales: Any, condition: str) -> list[str]:
    found = sales.query(f"SELECT Name FROM Account {condition}")["records"]
    assert sales.query(f"SELECT Name FROM Account {condition}")["records"] == found
    return [record["Name"] for record in found]


def test_ids_are_the_same_in_every_run(sales: Any) -> None:
    assert accounts(sales, 2) == ["001000000000001AAA", "001000000000002AAA"]
    opportunity = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2026-01-31"}
    assert sales.Opportunity.create(opportunity)["id"] == "006000000000003AAA"


def test_a_record_is_made_read_and_changed(sales: Any) -> None:
    made = sales.Account.create({"Name": "  Ünï 🚀 'n' \"co\" \\ ", "BillingStreet": ""})
    assert (made["success"], made["errors"]) == (True, [])
    record = sales.Account.get(made["id"])
    assert record["Name"] == "Ünï 🚀 'n' \"co\" \\"
    assert record["BillingStreet"] is None
    assert record["attributes"] == {"type": "Account", "url": f"/services/data/v59.0/sobjects/Account/{made['id']}"}
    assert sales.Account.get(made["id"][:15]) == record
    assert sales.Account.update(made["id"], {"BillingCity": "Kiel"}) == 204
    part = sales.Account.get(made["id"], params={"fields": "BillingCity,id"})
    assert {name: part[name] for name in part if name != "attributes"} == {"BillingCity": "Kiel", "Id": made["id"]}


def test_every_write_moves_the_stamp_also_one_without_effect(sales: Any) -> None:
    [account] = accounts(sales, 1)
    stamps = [sales.Account.get(account)["SystemModstamp"]]
    for _ in range(5):
        sales.Account.update(account, {"BillingCity": "Bonn"})
        stamps.append(sales.Account.get(account)["SystemModstamp"])
    assert stamps == sorted(set(stamps))
    assert all(len(moment) == len("2026-01-01T00:00:00.000+0000") for moment in stamps)


def test_upsert_makes_changes_and_asks_back(sales: Any) -> None:
    made = sales.Account.upsert("VAT_Id__c/DE 1", {"Name": "One"}, raw_response=True)
    again = sales.Account.upsert("VAT_Id__c/DE 1", {"Name": "Two"}, raw_response=True)
    assert (made.status_code, made.json()["created"]) == (201, True)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert made.json()["id"] == again.json()["id"]
    assert names(sales, "") == ["Two"]
    sales.Account.create({"Name": "Twin", "VAT_Id__c": "DE 1"})
    with pytest.raises(SalesforceError) as several:
        sales.Account.upsert("VAT_Id__c/DE 1", {"Name": "Three"})
    assert several.value.status == 300
    assert len(several.value.content) == 2
    assert refusal(lambda: sales.Account.upsert("Name/One", {}))[:2] == (404, "NOT_FOUND")


def test_conditions_and_order(sales: Any) -> None:
    accounts(sales, 4)
    sales.Account.create({"Name": "O'Hara\n% & 東京"})
    assert names(sales, "WHERE Name = 'O\\'Hara\\n% & 東京'") == ["O'Hara\n% & 東京"]
    assert names(sales, "where name = 'customer 01'") == ["Customer 01"]
    assert names(sales, "WHERE BillingCity = null") == ["O'Hara\n% & 東京"]
    assert names(sales, "WHERE BillingCity != 'Kiel' ORDER BY BillingCity, Name DESC LIMIT 2 OFFSET 1") == [
        "Customer 03",
        "Customer 02",
    ]
    assert names(sales, "WHERE Name IN ('Customer 00', 'Customer 03') ORDER BY Name") == ["Customer 00", "Customer 03"]
    assert names(sales, "WHERE Name NOT IN ('Customer 00') AND Name LIKE 'Cust%' ORDER BY Name DESC NULLS LAST") == [
        "Customer 03",
        "Customer 02",
        "Customer 01",
    ]
    assert names(sales, "WHERE (Name = 'Customer 00' OR Name = 'Customer 01') AND NOT Name LIKE '%0'") == [
        "Customer 01"
    ]
    assert names(sales, "WHERE CreatedDate < 2020-01-01T00:00:00Z") == []
    assert sales.query("SELECT COUNT() FROM Account")["totalSize"] == 5


def test_moments_compare_across_offsets(sales: Any) -> None:
    [account] = accounts(sales, 1)
    moment = sales.Account.get(account)["SystemModstamp"]
    assert names(sales, f"WHERE SystemModstamp = {moment.replace('+0000', 'Z')}") == ["Customer 00"]
    assert names(sales, f"WHERE SystemModstamp >= {moment.replace('+0000', '+01:00')}") == ["Customer 00"]
    assert names(sales, f"WHERE SystemModstamp >= {moment.replace('+0000', '-01:00')}") == []


def test_a_parent_comes_nested(sales: Any) -> None:
    [account] = accounts(sales, 1)
    deal = {"StageName": "Closed Won", "CloseDate": "2026-01-31", "Seats__c": "12.5"}
    sales.Opportunity.create({**deal, "Name": "With", "AccountId": account})
    sales.Opportunity.create({**deal, "Name": "Without"})
    soql = "SELECT Name, Account.Name, Account.BillingCity, Seats__c FROM Opportunity ORDER BY Name"
    having, lacking = sales.query(soql)["records"]
    assert having["Account"]["attributes"]["type"] == "Account"
    assert (having["Account"]["Name"], having["Account"]["BillingCity"]) == ("Customer 00", "Bonn")
    assert (lacking["Account"], lacking["Seats__c"]) == (None, 12.5)
    found = sales.query("SELECT Id FROM Opportunity WHERE Account.Name = 'Customer 00' AND Seats__c > 12")
    assert found["totalSize"] == 1


def test_pages_show_what_there_was_when_they_were_asked_for(sales: Any) -> None:
    made = accounts(sales, 7)
    sales.session.headers["Sforce-Query-Options"] = "batchSize=3"
    page = sales.query("SELECT Id FROM Account ORDER BY Id")
    assert (page["totalSize"], page["done"], len(page["records"])) == (7, False, 3)
    accounts(sales, 1)
    second = sales.query_more(page["nextRecordsUrl"], identifier_is_url=True)
    assert sales.query_more(page["nextRecordsUrl"], identifier_is_url=True) == second
    third = sales.query_more(second["nextRecordsUrl"], identifier_is_url=True)
    assert sales.query_more(second["nextRecordsUrl"], identifier_is_url=True) == third
    assert (third["done"], "nextRecordsUrl" in third) == (True, False)
    seen = [record["Id"] for part in (page, second, third) for record in part["records"]]
    assert seen == made
    assert refusal(lambda: sales.query_more("0r8nothing"))[:2] == (400, "INVALID_QUERY_LOCATOR")


@pytest.mark.parametrize(
    ("soql", "code", "says"),
    [
        ("SELECT FROM Account", "MALFORMED_QUERY", "unexpected token: 'FROM'"),
        ("SELECT Id FROM Account WHERE", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id FROM Account GROUP BY Id", "MALFORMED_QUERY", "unexpected token: 'GROUP'"),
        ("SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'", "MALFORMED_QUERY", "'OR'"),
        ("SELECT Id FROM Account WHERE Name = 'open", "MALFORMED_QUERY", "no viable alternative"),
        ("SELECT Id FROM Nope", "INVALID_TYPE", "sObject type 'Nope' is not supported"),
        ("SELECT Id, Bogus__c FROM Account", "INVALID_FIELD", "No such column 'Bogus__c' on entity 'Account'"),
        ("SELECT Account.Bogus__c FROM Opportunity", "INVALID_FIELD", "'Bogus__c' on entity 'Account'"),
        ("SELECT Owner.Name FROM Account", "INVALID_FIELD", "Didn't understand relationship 'Owner'"),
        ("SELECT Id FROM Account WHERE Name = 1", "INVALID_FIELD", "type string and should be enclosed in quotes"),
        (
            "SELECT Id FROM Account WHERE CreatedDate > '2026-01-01T00:00:00Z'",
            "INVALID_FIELD",
            "type dateTime and should not be enclosed in quotes",
        ),
    ],
)
def test_queries_that_cannot_be_answered(sales: Any, soql: str, code: str, says: str) -> None:
    status, answered, message = refusal(lambda: sales.query(soql))
    assert (status, answered) == (400, code)
    assert says in message


def test_writes_that_are_not_taken(sales: Any) -> None:
    [account] = accounts(sales, 1)
    before = sales.Account.get(account)
    assert refusal(lambda: sales.Account.create({"Name": "x", "Bogus__c": 1}))[:2] == (400, "INVALID_FIELD")
    assert refusal(lambda: sales.Account.create({"BillingCity": "x"}))[:2] == (400, "REQUIRED_FIELD_MISSING")
    assert refusal(lambda: sales.Account.update(account, {"Name": ""}))[:2] == (400, "REQUIRED_FIELD_MISSING")
    assert refusal(lambda: sales.Account.update(account, {"Id": "x"}))[1] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert refusal(lambda: sales.Account.update("001000000000999AAA", {}))[:2] == (404, "NOT_FOUND")
    assert refusal(lambda: sales.Nope.create({}))[:2] == (404, "NOT_FOUND")
    deal = {"Name": "Deal", "StageName": "New", "CloseDate": "2026-01-31"}
    for wrong in ({"CloseDate": "31.1.2026"}, {"Seats__c": "many"}, {"Seats__c": True}, {"Name": 5}):
        values: dict[str, object] = {**deal, **wrong}
        assert refusal(partial(sales.Opportunity.create, values))[:2] == (400, "JSON_PARSER_ERROR")
    stray = refusal(lambda: sales.Opportunity.create({**deal, "AccountId": "001000000000999AAA"}))
    assert stray[1] == "INVALID_CROSS_REFERENCE_KEY"
    assert sales.Account.get(account) == before
    assert sales.query("SELECT COUNT() FROM Opportunity")["totalSize"] == 0


def test_the_daily_limit(sales: Any) -> None:
    left = sales.limits()["DailyApiRequests"]
    assert left == {"Max": 200, "Remaining": 199}
    assert sales.api_usage["api-usage"].used == 1
    for _ in range(199):
        sales.limits()
    assert refusal(sales.limits)[:2] == (403, "REQUEST_LIMIT_EXCEEDED")


# The login, asked without the SDK where that would not send what is tried.


def log_in(server: SalesforceServer, ca: Path, **changes: str) -> tuple[int, str]:
    claims = {"iss": CONSUMER_KEY, "sub": USERNAME, "aud": f"https://{LOGIN_HOST}", "exp": "4102444800"} | changes
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    form = {"grant_type": grant, "assertion": jwt.encode(claims, server.private_key_pem, algorithm="RS256")}
    answer = call(server, ca, "POST", "services/oauth2/token", data=form)
    body = answer.json()
    return answer.status_code, body.get("error_description") or body["token_type"]


def call(server: SalesforceServer, ca: Path, method: str, path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, f"https://{server.address}/{path}", verify=str(ca), timeout=10, **options)


def test_the_assertion_is_verified(server: SalesforceServer, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    for _ in range(2):
        assert log_in(server, ca) == (200, "Bearer")
    assert log_in(server, ca, exp="1000000000") == (400, "expired authorization code")
    assert log_in(server, ca, aud="https://elsewhere.example") == (400, "audience is invalid")
    assert log_in(server, ca, iss="other") == (400, "client identifier invalid")
    assert log_in(server, ca, sub="other") == (400, "user hasn't approved this consumer")
    with SalesforceServer() as other:
        forged = jwt.encode({"iss": CONSUMER_KEY}, other.private_key_pem, algorithm="RS256")
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": forged}
    assert call(server, ca, "POST", "services/oauth2/token", data=form).json()["error"] == "invalid_grant"
    password = {"grant_type": "password", "username": USERNAME}
    answer = call(server, ca, "POST", "services/oauth2/token", data=password).json()
    assert answer["error"] == "unsupported_grant_type"


def test_without_a_session_there_is_nothing_to_see(server: SalesforceServer, tmp_path: Path) -> None:
    answer = call(server, tmp_path / "ca.pem", "GET", "services/data/v59.0/limits/")
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (401, "INVALID_SESSION_ID")


# The sandbox's own verbs.


def test_faults_come_on_order(server: SalesforceServer, sales: Any, tmp_path: Path) -> None:
    def order(**fault: object) -> int:
        return call(server, tmp_path / "ca.pem", "POST", "_sandbox/faults", data=json.dumps(fault)).status_code

    [account] = accounts(sales, 1)
    change = {"BillingCity": "Kiel"}
    assert order(code="UNABLE_TO_LOCK_ROW", method="patch", path="/Account/", count=2) == 204
    for _ in range(2):
        assert refusal(lambda: sales.Account.update(account, change))[:2] == (400, "UNABLE_TO_LOCK_ROW")
    assert sales.Account.get(account)["BillingCity"] == "Bonn"
    order(code="lost_answer", method="PATCH")
    with pytest.raises(requests.ConnectionError):
        sales.Account.update(account, change)
    assert sales.Account.get(account)["BillingCity"] == "Kiel"
    order(code="REQUEST_LIMIT_EXCEEDED", count=9)
    assert refusal(sales.limits)[:2] == (403, "REQUEST_LIMIT_EXCEEDED")
    call(server, tmp_path / "ca.pem", "DELETE", "_sandbox/faults")
    order(code="unavailable")
    assert refusal(sales.limits)[:2] == (503, "SERVER_UNAVAILABLE")
    assert sales.limits()
    assert order(code="surprise") == 400
    assert order(code="unavailable", path="(") == 400


def test_ended_sessions_and_the_log_of_writes(server: SalesforceServer, sales: Any, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    [account] = accounts(sales, 1)
    for _ in range(2):
        call(server, ca, "POST", "_sandbox/expire_sessions")
        sales.Account.update(account, {"BillingCity": "Kiel"})
    writes = call(server, ca, "GET", "_sandbox/writes").json()
    assert [(write["kind"], write["changed"]) for write in writes] == [
        ("create", {"Name": "Customer 00", "BillingCity": "Bonn"}),
        ("update", {"BillingCity": "Kiel"}),
        ("update", {}),
    ]
    [record] = call(server, ca, "GET", "_sandbox/records/account").json()
    assert (record["Id"], record["BillingCity"]) == (account, "Kiel")


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.salesforce", "--port", "0", "--folder", str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "ready"
            ca_file, key_file = tmp_path / "new" / "ca.pem", tmp_path / "new" / "connected_app.pem"
            assert [stat.S_IMODE(path.stat().st_mode) for path in (ca_file, key_file)] == [0o600, 0o600]
            client: Any = salesperson(url.removeprefix("https://"), ca_file, key_file.read_text())
            deal = sign_deal(
                client,
                account_name="Acme GmbH",
                email="billing@acme.example",
                country="DE",
                time_zone="Europe/Berlin",
                street="Hauptstraße 1",
                postal_code="10115",
                city="Berlin",
                entity="de",
                plan="team",
                seats=Decimal("12.5"),
                starts_on=date(2026, 1, 1),
                currency="EUR",
            )
            won = client.query("SELECT Id, Seats__c, Account.Name FROM Opportunity WHERE StageName = 'Closed Won'")
            assert [record["Id"] for record in won["records"]] == [deal]
            client.session.close()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
