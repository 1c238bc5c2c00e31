"""What is asked of usage: live windows, the events behind a total, and an audit whose numbers add up."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import anyio
import pyarrow.parquet
import pytest

from tests.api.conftest import Front
from tests.api.test_catalog import sold
from tests.api.test_events import event, send
from tests.api.test_meters import meter
from tests.api.test_plans import item
from tests.conftest import application

pytestmark = pytest.mark.anyio

MARCH = "since=2026-03-01&until=2026-04-01"


async def used(front: Front, **other: Any) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """A customer in Berlin, a meter, and events around the night of 29 March 2026 in which clocks go forward."""
    made = await front.post("/v1/meters", meter(dimensions=["model"], **other))
    customer = await front.customer()
    times = [
        ("2026-03-28T22:59:59Z", 1, "a"),
        ("2026-03-28T23:00:00Z", 2, "a"),
        ("2026-03-29T00:30:00Z", 4, "b"),
        ("2026-03-29T01:00:00Z", 8, "a"),
        ("2026-03-29T01:00:30Z", 16, "b"),
        ("2026-03-29T01:01:00Z", 32, None),
        ("2026-03-31T21:59:59.999999Z", 64, "a"),
        ("2026-03-31T22:00:00Z", 128, "a"),
    ]
    events = [
        event(subject=customer, type=made["event_type"], time=at, data={"n": n} | ({"model": model} if model else {}))
        for at, n, model in times
    ]
    assert (await send(front, events))["accepted"] == len(events)
    return customer, made, events


def said(windows: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(w["starts_at"], w["quantity"], w["events"]) for w in windows]


async def test_windows_are_those_of_the_customers_clock(front: Front) -> None:
    customer, made, _ = await used(front, resolution="minute")
    at = f"/v1/customers/{customer}/usage/windows?meter={made['id']}&{MARCH}&window="
    assert said(await front.get(at + "day")) == [
        ("2026-03-27T23:00:00Z", "1", 1),
        ("2026-03-28T23:00:00Z", "62", 5),
        ("2026-03-30T22:00:00Z", "64", 1),
    ]
    assert said(await front.get(at + "week")) == [("2026-03-22T23:00:00Z", "63", 6), ("2026-03-29T22:00:00Z", "64", 1)]
    [month] = await front.get(at + "month")
    assert (month["starts_at"], month["ends_at"], month["quantity"]) == (
        "2026-02-28T23:00:00Z",
        "2026-03-31T22:00:00Z",
        "127",
    )
    hours = await front.get(at.replace("2026-03-01", "2026-03-28") + "hour")
    assert said(hours)[1:4] == [
        ("2026-03-28T23:00:00Z", "2", 1),
        ("2026-03-29T00:00:00Z", "4", 1),
        ("2026-03-29T01:00:00Z", "56", 3),
    ]
    night = f"/v1/customers/{customer}/usage/windows?meter={made['id']}&since=2026-03-29&until=2026-03-30&window=minute"
    assert said(await front.get(night))[2:] == [("2026-03-29T01:00:00Z", "24", 2), ("2026-03-29T01:01:00Z", "32", 1)]
    by_model = await front.get(at + "month&by=model")
    assert [(w["properties"], w["quantity"]) for w in by_model] == [
        ({"model": ""}, "32"),
        ({"model": "a"}, "75"),
        ({"model": "b"}, "20"),
    ]


async def test_windows_of_a_subscription_are_cut_at_its_days(front: Front) -> None:
    customer, made, _ = await used(front, resolution="minute")
    plan = await sold(front, item({"kind": "per_unit", "rate": "1"}, basis="meter", meter=made["id"]))
    sub = await front.subscription(customer, plan=plan, starts_on="2026-03-29")
    at = f"/v1/subscriptions/{sub}/usage/windows?meter={made['id']}"
    [week, april] = await front.get(f"{at}&since=2026-03-01&until=2026-04-05&window=week")
    assert (week["starts_at"], week["ends_at"], week["quantity"]) == (
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:00Z",
        "62",
    )
    assert (april["starts_at"], april["ends_at"], april["quantity"]) == (
        "2026-03-29T22:00:00Z",
        "2026-04-04T22:00:00Z",
        "192",
    )
    assert said(await front.get(f"{at}&until=2026-04-05")) == [
        ("2026-03-28T23:00:00Z", "62", 5),
        ("2026-03-30T22:00:00Z", "64", 1),
        ("2026-03-31T22:00:00Z", "128", 1),
    ]
    assert await front.get(at) == []  # It has not begun.
    by_model = await front.get(f"{at}&window=month&by=model&{MARCH}")
    assert [(w["properties"]["model"], w["quantity"]) for w in by_model] == [("", "32"), ("a", "74"), ("b", "20")]
    assert len(await front.get(f"{at}&window=minute&since=2026-03-28&until=2026-03-30")) == 4
    assert await front.get(f"{at}&until=2026-03-29") == await front.get(f"{at}&since=2026-06-01") == []
    refusal = await front.refused("GET", at.replace(made["id"], "tokens"), status=422, code="not_metered")
    assert made["id"] in refusal["fields"]["meter"]
    await front.refused("GET", at.replace(made["id"], "nothing"), status=404)
    await front.refused("GET", at.replace(sub, "nothing"), status=404)
    long = f"{at}&window=hour&since=2026-04-01&until=2027-01-01"
    await front.refused("GET", long, status=422, code="too_many_windows")


async def test_without_days_windows_are_those_of_the_running_period_so_far(front: Front) -> None:
    """Of a period of three years, its last days, as many as one answer covers."""
    made = await front.post("/v1/meters", meter(resolution="minute"))
    price = item({"kind": "per_unit", "rate": "1"}, basis="meter", meter=made["id"])
    plan = await sold(front, price, interval={"unit": "year", "count": 3})
    customer = await front.customer()
    today = datetime.fromisoformat((await front.get("/v1/test-clocks/clk"))["now"])
    days = [today - timedelta(days=back) for back in (0, 1, 2, 300)]
    sub = await front.subscription(customer, plan=plan, starts_on=str(days[-1].date()))
    events = [event(subject=customer, type=made["event_type"], time=at.isoformat(), data={"n": 1}) for at in days]
    assert (await send(front, events))["accepted"] == 4
    at = f"/v1/subscriptions/{sub}/usage/windows?meter={made['id']}"
    assert [w["events"] for w in await front.get(at)] == [1] * 4
    assert [w["events"] for w in await front.get(f"{at}&window=hour")] == [1] * 3
    assert [w["events"] for w in await front.get(f"{at}&window=minute")] == [1] * 2
    assert [w["events"] for w in await front.get(f"{at}&window=minute&until={days[1].date()}")] == [1]


@pytest.mark.parametrize("when", ["now", "2026-02-01"])
async def test_a_subscription_that_never_began_has_used_nothing(front: Front, when: str) -> None:
    customer, made, _ = await used(front)
    plan = await sold(front, item({"kind": "per_unit", "rate": "1"}, basis="meter", meter=made["id"]))
    path = f"/v1/subscriptions/{await front.subscription(customer, plan=plan, starts_on='2026-03-01')}"
    await front.post(f"{path}/cancellations", {"id": f"can-{made['id']}", "reason": "other", "when": when})
    with anyio.fail_after(20):
        while not (await front.get(path))["ends_on"]:
            await anyio.sleep(0.05)
    assert await front.get(f"{path}/usage/windows?meter={made['id']}&{MARCH}") == []
    assert await front.get(f"{path}/usage") == await front.get(f"{path}/late-usage") == []


async def test_what_cannot_be_told_is_refused(front: Front) -> None:
    customer, made, _ = await used(front)
    at = f"/v1/customers/{customer}/usage/windows?meter={made['id']}&{MARCH}&"
    assert set((await front.refused("GET", at + "window=minute", status=422, code="too_fine"))["fields"]) == {"window"}
    long = at.replace("2026-03-01", "2020-01-01") + "window=hour"
    assert set((await front.refused("GET", long, status=422, code="too_many_windows"))["fields"]) == {"until"}
    strange = await front.refused("GET", at + "by=region", status=422, code="unknown_dimension")
    assert "model" in strange["errors"][0]["reason"]
    assert "''" in (await front.refused("GET", at + "by=", status=422, code="unknown_dimension"))["detail"]
    await front.refused("GET", at.replace(made["id"], "nothing"), status=404)
    await front.refused("GET", at + "window=year", status=422)
    for way in ("events?", "usage/audit?meter=tokens&", "events/export?format=csv&"):
        await front.refused("GET", f"/v1/customers/nobody/{way}{MARCH}", status=404)


@pytest.mark.parametrize(
    "after",
    [
        "x",
        "[]",
        "[1, 2, 3]",
        '{"a": 1}',
        "9" * 5_000,
        "[" * 20_000,
        f'["2026-03-01", "s", {"9" * 5_000}]',
        '["2026-03-01T00:00:00", "s", "x"]',
        r'["2026-03-01T00:00:00Z", "\ud800", "x"]',
    ],
)
async def test_a_page_begins_behind_an_event_or_is_refused(front: Front, after: str) -> None:
    customer = await front.customer()
    at = f"/v1/customers/{customer}/events?{MARCH}&after={quote(after)}"
    refusal = await front.refused("GET", at, status=422, code="invalid_request")
    assert refusal["fields"] == {"after": "must be `next` of the page before"}


async def test_the_events_behind_a_total_in_pages_and_as_files(front: Front) -> None:
    customer, made, events = await used(front)
    precise = event(subject=customer, type=made["event_type"], time="2026-03-31T12:00:00Z", data={"n": 0})
    body = json.dumps({"events": [precise]}).replace('"n": 0', '"n": 0.10000000000000000000000000010')
    assert (await front.api.post("/v1/events", content=body.encode())).json()["accepted"] == 1
    await send(front, [event(subject=customer, type="other", time="2026-03-30T00:00:00Z")])
    at = f"/v1/customers/{customer}/events?{MARCH}&meter={made['id']}"
    found: list[dict[str, Any]] = []
    after = ""
    while after is not None:
        page = await front.api.get(f"{at}&limit=3&after={quote(after)}")
        found += json.loads(page.text, parse_float=Decimal)["events"]
        after = page.json()["next"]
    march = sorted([*events[:7], precise], key=lambda e: e["time"])
    assert [e["id"] for e in found] == [e["id"] for e in march]
    [shown] = [e for e in found if e["id"] == precise["id"]]
    assert str(shown["data"]["n"]) == "0.10000000000000000000000000010"
    assert len((await front.get(f"/v1/customers/{customer}/events?{MARCH}"))["events"]) == 9
    wrong = {"source": march[0]["source"], "id": march[0]["id"], "reason": "a test"}
    await front.post("/v1/events/corrections", {"corrections": [wrong]})
    assert [e["void"] for e in (await front.get(f"/v1/customers/{customer}/events?{MARCH}"))["events"]].count(True) == 1
    march = march[1:]
    export = f"/v1/customers/{customer}/events/export?{MARCH}&meter={made['id']}&format="
    lines = (await front.api.get(export + "ndjson")).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [e["id"] for e in march]
    rows = list(csv.DictReader(io.StringIO((await front.api.get(export + "csv")).text)))
    assert [row["id"] for row in rows] == [e["id"] for e in march]
    table = pyarrow.parquet.read_table(io.BytesIO((await front.api.get(export + "parquet")).content))
    assert table.column("id").to_pylist() == [e["id"] for e in march]
    assert table.column("data").to_pylist() == [row["data"] for row in rows]


async def test_an_audit_adds_up(front: Front) -> None:
    customer, made, events = await used(front)
    kind = made["event_type"]
    await send(front, [*events, {**events[0], "data": {"n": 7}}])
    await send(front, [event(subject=customer, type=kind, time="2026-03-05T00:00:00Z", data={}) for _ in range(2)])
    found = await front.get(f"/v1/customers/{customer}/usage/audit?meter={made['id']}&{MARCH}")
    assert found == {
        "received": 17,
        "accepted": 9,
        "duplicate": 7,
        "conflict": 1,
        "quarantined": 0,
        "discarded": 0,
        "amended": 0,
        "voided": 0,
        "stored": 9,
        "late": 0,
        "counted": 7,
        "uncounted": 2,
    }


async def test_the_events_behind_an_invoice_are_proved(front: Front) -> None:
    customer = await front.customer()
    sub = await front.subscription(customer)
    days = ("2026-01-03", "2026-01-04")
    sent = [event(subject=customer, type="llm", time=f"{day}T12:00:00Z", data={"n": 3}) for day in days]
    assert (await send(front, sent))["accepted"] == 2
    await front.advance("clk", datetime(2026, 2, 2, 9, tzinfo=UTC))
    usage = await front.get(f"/v1/subscriptions/{sub}/usage")
    assert [(u["first_day"], u["quantity"], u["net_minor"], u["billed_quantity"]) for u in usage] == [
        ("2026-01-01", "6", 6, "6"),
        ("2026-02-01", "0", 0, "0"),
    ]
    await send(front, [event(subject=customer, type="llm", time="2026-01-05T12:00:00Z", data={"n": 1})])
    wrong = {"source": sent[0]["source"], "id": sent[0]["id"], "reason": "a test"}
    await front.post("/v1/events/corrections", {"corrections": [wrong]})
    found = [
        await front.get(f"/v1/invoices/{i['id']}/usage-proof")
        for i in await front.get(f"/v1/invoices?customer={customer}")
    ]
    assert all((one["holds"], one["verdict"]) == (True, "holds") for one in found)
    [line] = [line for one in found for line in one["lines"]]
    assert (line["verdict"], line["signed"], line["signed"]["events"], line["now"]["events"]) == (
        "holds",
        line["then"],
        2,
        2,
    )
    assert len(line["signed"]["digest"]) == 32 and line["now"]["digest"] != line["signed"]["digest"]
    assert (line["since"]["came"], line["since"]["void"]) == (1, 1)
    assert {d["what"] for d in line["differences"]} == {"came", "void"}
    told = await front.get(f"/v1/customers/{customer}/usage/audit?meter=tokens&since=2026-01-01&until=2026-02-01")
    assert (told["accepted"], told["late"], told["voided"], told["counted"]) == (3, 1, 1, 2)
    [bill] = [one for one in found if one["lines"]]
    at = f"/v1/invoices/{bill['number']}/usage-proof?line="
    assert (await front.get(f"{at}{line['line_no']}"))["lines"] == [line]
    await front.refused("GET", f"{at}99", status=404)
    await front.refused("GET", f"{at}99999999999", status=422)
    await front.refused("GET", "/v1/invoices/nothing/usage-proof", status=404)
    await front.refused("GET", "/v1/subscriptions/nothing/usage", status=404)


async def test_usage_without_a_price_is_listed(front: Front) -> None:
    customer = await front.customer("a-customer-without-a-plan")
    await send(front, [event(subject=customer, type="llm", time="2026-01-03T12:00:00Z", data={"n": 3})])
    at = "/v1/usage/without-price?since=2026-01-01&until=2026-02-01"
    found = (await front.get(at))["usage"]
    [mine] = [u for u in found if u["customer_id"] == customer]
    assert (mine["meter"], mine["quantity"], mine["days"], mine["why"]) == ("tokens", "3", 1, "no_subscription")
    page = await front.get(f"{at}&limit=1&after_customer=a")
    assert page["next"] == customer
    refused = await front.refused("GET", at.replace("2026-02-01", "2028-01-01"), status=422, code="too_many_days")
    assert set(refused["fields"]) == {"until"}


async def test_what_came_in_conflict_is_shown_as_it_was_sent(front: Front) -> None:
    customer, other = await front.customer(), await front.customer()
    first, second = event(subject=customer), event(subject=customer)
    await send(front, [first, second])
    for n in (5, 6, 5):
        assert await send(front, [{**first, "data": {"n": n}}]) == {"conflict": 1}
    assert await send(front, [{**second, "subject": "stranger"}, {**second, "subject": other}]) == {"conflict": 2}
    found, after = [], ""
    while after is not None:
        page = await front.get(f"/v1/usage/conflicts?customer={customer}&limit=1&after={quote(after)}")
        found += page["conflicts"]
        after = page["next"]
    assert sorted((one["id"], one["event"]["data"]["n"]) for one in found) == [(first["id"], 5), (first["id"], 6)]
    everybody = (await front.get("/v1/usage/conflicts?limit=500"))["conflicts"]
    mine = [(one["customer_id"], one["event"]["subject"]) for one in everybody if one["id"] == second["id"]]
    assert sorted(mine, key=str) == sorted([(None, "stranger"), (other, other)], key=str)
    for nonsense in ("x", '["a", "b"]', '["a", "b", 9223372036854775808]', "[" * 20_000):
        assert (await front.api.get("/v1/usage/conflicts", params={"after": nonsense})).status_code == 422


OF_ONE = ["usage/conflicts?customer=", "invoices?customer=", "invoices?subscription=", "overrides?customer="]


def test_these_are_all_filters_that_name_somebody() -> None:
    """`subject` of the quarantine is whatever was sent: nobody may be known by it."""
    lists = {
        f"{path.removeprefix('/v1/')}?{p['name']}="
        for path, by in application().openapi()["paths"].items()
        for p in by.get("get", {}).get("parameters", ())
        if p["in"] == "query" and p["name"] in ("customer", "subscription", "plan", "entity", "product", "feature")
    }
    assert lists == set(OF_ONE)


@pytest.mark.parametrize("asked", OF_ONE)
async def test_nobody_is_not_somebody_who_has_nothing(front: Front, asked: str) -> None:
    for name in ("nobody", ""):
        await front.refused("GET", f"/v1/{asked}{name}", status=404, code="not_found")


async def test_a_meter_that_is_not_there_is_no_meter_without_events(front: Front) -> None:
    customer = await front.customer()
    for path in ("events?", "events/export?format=csv&", "usage/audit?", "usage/windows?window=day&"):
        answer = await front.api.get(f"/v1/customers/{customer}/{path}{MARCH}&meter=tokns")
        assert answer.status_code == 404 and "tokns" in answer.text


async def test_the_events_behind_a_window_and_a_dimension(front: Front) -> None:
    customer, made, _ = await used(front)
    path = f"/v1/customers/{customer}/events"
    window = f"starts_at=2026-03-29T01:00:00Z&ends_at={quote('2026-03-29T04:00:00+02:00')}"
    asked = f"{MARCH}&meter={made['id']}&{window}"

    async def behind(more: str) -> list[int]:
        return [one["data"]["n"] for one in (await front.get(f"{path}?{asked}{more}"))["events"]]

    assert await behind("") == [8, 16, 32]
    assert await behind("&property=model=b") == [16]
    assert await behind("&property=model=") == [32]
    assert await behind("&property=model=a&property=n=8") == [8]
    lines = (await front.api.get(f"{path}/export?{asked}&format=ndjson&property=model=a")).text.splitlines()
    assert [json.loads(line)["data"]["n"] for line in lines] == [8]
    for more in ("", "/export"):
        no_field = f"{path}{more}?{asked}&property=nofield=large" + ("&format=csv" if more else "")
        refusal = await front.refused("GET", no_field, status=422, code="unknown_dimension")
        assert refusal["fields"] == {"property": "must be of the fields that the meter looks at: model, n"}
    assert (await front.get(f"{path}?{MARCH}&property=nofield=large"))["events"] == []  # Events of any type.
    for nonsense in ("property=model", "property==x", "starts_at=yesterday"):
        assert (await front.api.get(f"{path}?{MARCH}&{nonsense}")).status_code == 422
