"""Usage at the door: garbage is refused whole with a reason, good events count once, whatever else happens."""

from __future__ import annotations

import json
import random
import secrets
from collections import Counter
from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Front, problem

pytestmark = pytest.mark.anyio

DEEP = 10_000


def event(**other: Any) -> dict[str, Any]:
    return {
        "source": "s",
        "id": secrets.token_hex(6),
        "subject": "cus",
        "type": "llm",
        "time": "2026-01-05T00:00:00Z",
        "data": {"n": 1},
        **other,
    }


def batch(**other: Any) -> bytes:
    """A good event, and then one with something else about it."""
    return json.dumps({"events": [event(), event(**other)]}).encode()


def with_text(field: str, text: str) -> bytes:
    """The batch with JSON as it is written here, which no program may have made."""
    return batch(**{field: "@"}).replace(b'"@"', text.encode())


def with_number(text: str) -> bytes:
    return with_text("data", f'{{"n": {text}}}')


GARBAGE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "body"),
    "null": (b"null", "events"),
    "an empty list": (b"[]", "events"),
    "text": (b'"events"', "events"),
    "half": (batch()[:-9], "body"),
    "two": (batch() + batch(), "body"),
    "no batch": (b'{"events": []}', "events"),
    "no events": (b"{}", "events"),
    "other field": (b'{"events": [], "more": 1}', "events"),
    "an event of nothing": (b'{"id": [], "source": {}}', "events.0"),
    "events in an object": (b'{"events": {"0": 1}}', "events"),
    "a number": (b'{"events": [1]}', "events.0"),
    "byte order mark": (b"\xef\xbb\xbf" + batch(), "body"),
    "utf-16": (batch().decode().encode("utf-16"), "body"),
    "not utf-8": (batch(source="@").replace(b"@", b"\xff\xfe"), "events.1"),
    "overlong utf-8": (batch(source="@").replace(b"@", b"\xc0\xaf"), "events.1"),
    "surrogate in bytes": (batch(source="@").replace(b"@", b"\xed\xa0\x80"), "events.1"),
    "surrogate": (with_text("source", r'"\ud800"'), "body"),
    "surrogates the wrong way round": (with_text("source", r'"\udc00\ud800"'), "body"),
    "surrogate in data": (with_text("data", r'{"n": 1, "\ud800": 1}'), "body"),
    "nul": (with_text("source", r'"a\u0000"'), "events.1"),
    "nul behind a backslash": (with_text("source", r'"a\\\u0000"'), "events.1"),
    "nul in a key": (with_text("data", r'{"\u0000": 1}'), "events.1"),
    "bare nul": (batch(source="@").replace(b"@", b"\0"), "body"),
    "control character": (batch(source="@").replace(b"@", b"\x01"), "body"),
    "deep": (with_text("data", '{"a":' + "[" * DEEP + "]" * DEEP + "}"), "body"),
    "deep objects": (with_text("data", '{"a":' * DEEP + "1" + "}" * DEEP), "body"),
    "deep and open": (b"[" * DEEP, "body"),
    "1e400": (with_number("1e400"), "events.1.data"),
    "1e30": (with_number("1e30"), "events.1.data"),
    "1e999999999": (with_number("1e999999999"), "events.1.data"),
    "exponent of its own size": (with_number("1e99999999999999999999"), "events.1.data"),
    "1e-999999999": (with_number("1e-999999999"), "events.1.data"),
    "endless fraction": (with_number("0." + "3" * 100_000), "events.1.data"),
    "absurd beside the quantity": (with_text("data", '{"n": 1, "m": [{"o": 1e131071}]}'), "events.1.data"),
    "NaN": (with_number("NaN"), "body"),
    "Infinity": (with_number("Infinity"), "body"),
    "-Infinity": (with_number("-Infinity"), "body"),
    "leading zero": (with_number("01"), "body"),
    "hexadecimal": (with_number("0x1"), "body"),
    "huge": (with_number("9" * 40), "events.1.data.n"),
    "huge below zero": (with_number("-" + "9" * 40), "events.1.data.n"),
    "4,999 digits": (with_number("9" * 4999), "events.1.data"),
    "true": (with_number("true"), "events.1.data.n"),
    "text as quantity": (with_number('"5"'), "events.1.data.n"),
    "list as quantity": (with_number("[5]"), "events.1.data.n"),
    "object as quantity": (with_number("{}"), "events.1.data.n"),
    "data as list": (batch(data=[1]), "events.1.data"),
    "data as null": (batch(data=None), "events.1.data"),
    "no zone": (batch(time="2026-01-05T00:00:00"), "events.1.time"),
    "a day": (batch(time="2026-01-05"), "events.1.time"),
    "31 February": (batch(time="2026-02-31T00:00:00Z"), "events.1.time"),
    "leap second": (batch(time="2026-06-30T23:59:60Z"), "events.1.time"),
    "a moment as a number": (batch(time=1767225600), "events.1.time"),
    "year 1": (batch(time="0001-01-01T00:00:00+14:00"), "events.1.time"),
    "year 9999": (batch(time="9999-12-31T23:59:59-12:00"), "events.1.time"),
    "year 10000": (batch(time="10000-01-01T00:00:00Z"), "events.1.time"),
    "before 1970": (batch(time="1969-12-31T23:59:59Z"), "events.1.time"),
    "no id": (batch(id=""), "events.1.id"),
    "long id": (batch(id="x" * 201), "events.1.id"),
    "id as a number": (batch(id=7), "events.1.id"),
    "no type": (batch(type=""), "events.1.type"),
    "misspelt": (batch(dta={}), "events.1"),
    "another version of CloudEvents": (batch(specversion="0.3"), "events.1.specversion"),
    "data in another format": (batch(specversion="1.0", datacontenttype="text/xml"), "events.1.datacontenttype"),
    "data as base64": (batch(specversion="1.0", data_base64="AA=="), "events.1.data_base64"),
    "a strange attribute": (batch(specversion="1.0", traceParent="00"), "events.1.traceParent"),
    "an attribute that data has too": (batch(specversion="1.0", n=2), "events.1.n"),
    "10,001 events": (json.dumps({"events": [event() for _ in range(10_001)]}).encode(), "events"),
}


WRONG = {name: found for name, found in GARBAGE.items() if found[1].startswith("events.1")}


@pytest.mark.parametrize("name", sorted(GARBAGE.keys() - WRONG.keys()))
async def test_garbage_is_refused_with_its_place(front: Front, name: str) -> None:
    body, field = GARBAGE[name]
    before = front.rows("select count(*) from usage_event")
    refusal = await front.refused("POST", "/v1/events", body, status=422, code="invalid_events")
    assert [where for where in refusal["fields"] if where.startswith(field)], refusal["errors"]
    assert front.rows("select count(*) from usage_event") == before


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_event_is_told_and_does_not_hold_back_the_other(front: Front, name: str) -> None:
    body, where = WRONG[name]
    field = where.removeprefix("events.1").removeprefix(".")
    customer = await front.customer()
    answer = await front.api.post("/v1/events", content=body.replace(b'"cus"', json.dumps(customer).encode()))
    assert answer.status_code == 207, answer.text
    receipt = answer.json()
    [told] = receipt.pop("events")
    assert receipt == {"accepted": 1, "duplicate": 0, "conflict": 0, "quarantined": 0, "invalid": 1}
    assert (told["index"], told["outcome"]) == (1, "invalid")
    assert told.get("field", "").startswith(field), told
    assert told["reason"]
    assert front.rows("select count(*) from usage_event where customer_id = %s", customer) == [(1,)]


async def test_the_same_name_with_another_content_is_a_conflict_and_kept(front: Front) -> None:
    customer = await front.customer()
    first = event(subject=customer, data={"n": 5, "m": {"a": 1, "b": 2}})
    reordered = {**dict(reversed(first.items())), "data": {"m": {"b": 2, "a": 1}, "n": 5}}
    later = {**first, "time": "2026-01-05T01:00:00+01:00"}
    other = {**first, "data": {"n": 6}}
    assert (await send(front, [first]))["accepted"] == 1
    assert (await send(front, [reordered, later]))["duplicate"] == 2
    answer = await front.api.post("/v1/events", json=other)
    assert answer.status_code == 207
    assert answer.json()["events"][0].items() >= {"index": 0, "outcome": "conflict"}.items()
    assert (await send(front, [other, other]))["conflict"] == 2
    assert await total(front, customer) == 5
    kept = front.rows("select event -> 'data' ->> 'n' from usage_conflict where customer_id = %s", customer)
    assert kept == [("6",)]
    counted = front.rows("select outcome, events from usage_answered where customer_id = %s order by 1", customer)
    assert counted == [("accepted", 1), ("conflict", 3), ("duplicate", 2)]


async def test_only_a_request_whose_events_are_all_invalid_is_refused(front: Front) -> None:
    known = event(subject=await front.customer())
    await send(front, [known])
    other: dict[str, Any] = {**known, "data": {"n": 6}}
    statuses = [(207, [other]), (207, [other, other]), (207, [other, {}]), (207, [known, {}]), (422, [{}, {}])]
    for status, events in statuses:
        assert (await front.api.post("/v1/events", json=events)).status_code == status, events


async def test_of_a_refused_batch_each_event_is_named(front: Front) -> None:
    refusal = problem(await front.api.post("/v1/events", json=[{}] * 150), 422, "invalid_events")
    assert [one["field"] for one in refusal["errors"]] == [f"events.{n}" for n in range(150)]


async def test_of_a_stream_so_many_of_each_outcome_are_named(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.events.MOST_LISTED", 2)
    known = event(subject=await front.customer())
    await send(front, [known])
    lines = "\n".join(json.dumps(one) for one in (known, known, known, {}, {}, {}))
    answer = await front.api.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"})
    told = [(one["index"], one["outcome"]) for one in answer.json()["events"]]
    assert told == [(0, "duplicate"), (1, "duplicate"), (3, "invalid"), (4, "invalid")]
    assert (answer.json()["duplicate"], answer.json()["invalid"]) == (3, 3)


async def total(front: Front, customer: str) -> Decimal:
    found = await front.get(f"/v1/customers/{customer}/usage?since=1970-01-01&until=2199-12-31")
    return sum((Decimal(t["quantity"]) for t in found if t["meter"] == "tokens"), Decimal(0))


async def send(front: Front, events: list[dict[str, Any]]) -> dict[str, int]:
    """What became of them, in numbers; those that are none are left out."""
    answer = await front.api.post("/v1/events", content=json.dumps({"events": events}))
    assert answer.status_code in (200, 207), answer.text
    return {outcome: many for outcome, many in answer.json().items() if outcome != "events" and many}


async def test_odd_but_good_numbers_count_exactly(front: Front) -> None:
    customer = await front.customer()
    numbers = ["-0", "-0.0", "0", "1e3", "1E+2", "1.10", "-5", "0." + "0" * 29 + "1", "9" * 30, "1e29", "0.1", "0.2"]
    for number in numbers:
        body = json.dumps({"events": [event(subject=customer, data="@")]}).replace('"@"', f'{{"n": {number}}}')
        answer = await front.api.post("/v1/events", content=body.encode())
        assert answer.json()["accepted"] == 1, (number, answer.text)
    days = await front.get(f"/v1/customers/{customer}/usage?since=2026-01-01&until=2026-02-01")
    assert days[0]["quantity"] == "1100000000000000000000000001095.400000000000000000000000000001"


async def test_of_a_key_that_stands_twice_the_last_counts_and_words_with_backslashes_are_words(front: Front) -> None:
    customer = await front.customer()
    twice = json.dumps({"events": [event(subject=customer, data="@")]}).replace('"@"', '{"n": 1, "n": 2}')
    assert (await front.api.post("/v1/events", content=twice.encode())).json()["accepted"] == 1
    assert await total(front, customer) == 2
    words = event(subject=customer, data={"n": 1, "said": "\\u0000", "emoji": "\U0001f600", "\u202e": None})
    assert (await send(front, [words]))["accepted"] == 1


async def test_the_total_is_there_when_the_answer_is_and_a_repetition_changes_nothing(front: Front) -> None:
    customer = await front.customer()
    events = [event(subject=customer, data={"n": n}) for n in range(100)]
    assert await send(front, events) == {"accepted": 100}
    assert await total(front, customer) == 4950
    other_content = [{**e, "time": "2026-03-01T00:00:00Z", "data": {"n": 7}} for e in events]
    for again in (events, events + events):
        assert await send(front, again) == {"duplicate": len(again)}
    assert await send(front, events + other_content) == {"duplicate": 100, "conflict": 100}
    assert await total(front, customer) == 4950


async def test_events_that_no_meter_counts_are_kept_and_change_no_total(front: Front) -> None:
    customer = await front.customer()
    kept = [event(subject=customer, type="other"), event(subject=customer, data={}), event(subject=customer)]
    kept.append(event(subject=customer, data={"n": None}))
    assert (await send(front, kept))["accepted"] == 4
    assert await total(front, customer) == 1


async def test_eight_clients_with_overlapping_batches(front: Front) -> None:
    customers = [await front.customer() for _ in range(3)]
    drawn = random.Random(7)
    events = [event(subject=drawn.choice(customers), data={"n": n}) for n in range(1500)]
    events += [event(subject="a-stranger", data={"n": 1}) for _ in range(100)]
    took: Counter[str] = Counter()

    async def client(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(6):
            part = mine.sample(events, 500)
            answer = await send(front, part)
            assert sum(answer.values()) == len(part)
            for outcome, many in answer.items():
                took[outcome] += many

    async with anyio.create_task_group() as group:
        for seed in range(8):
            group.start_soon(client, seed)
    last = await send(front, events)
    assert took["accepted"] + last.get("accepted", 0) == 1500
    assert took["quarantined"] + last.get("quarantined", 0) == 100
    assert sum([await total(front, c) for c in customers]) == sum(range(1500))


async def test_a_stranger_is_kept_and_counted_once_known(front: Front) -> None:
    customer, stranger = await front.customer(), f"stranger-{secrets.token_hex(3)}"
    events = [event(subject=stranger, data={"n": n, "deep": [1.5, {"x": None}]}) for n in (1, 2, 3)]
    assert await send(front, events) == {"quarantined": 3}
    assert await send(front, events) == {"duplicate": 3}
    waiting = [e["id"] for e in (await front.get("/v1/quarantine?limit=1000"))["events"] if e["subject"] == stranger]
    assert sorted(waiting) == sorted(e["id"] for e in events)
    body = {"subject": stranger}

    async def replayed() -> dict[str, int]:
        answer: dict[str, int] = await front.post("/v1/quarantine/replay", body)
        return {outcome: many for outcome, many in answer.items() if many and outcome != "waiting_before"}

    assert await replayed() == {"quarantined": 3}
    await front.post(f"/v1/customers/{customer}/aliases", {"alias": stranger})
    assert await send(front, events[:1]) == {"accepted": 1}
    assert await replayed() == {"accepted": 2, "duplicate": 1}
    assert await replayed() == {}
    assert await total(front, customer) == 6


async def test_nobody_takes_anothers_usage(front: Front) -> None:
    one, other = await front.customer(), await front.customer()
    await front.post(f"/v1/customers/{one}/aliases", {"alias": f"{one}-ws"})
    await front.post(f"/v1/customers/{one}/aliases", {"alias": f"{one}-ws"})
    assert (await front.get(f"/v1/customers/{one}"))["aliases"] == [f"{one}-ws"]
    assert (await front.get(f"/v1/customers/{other}"))["aliases"] == []
    for asked in ("", "/usage?since=2026-01-01&until=2026-02-01"):
        refusal = await front.refused("GET", f"/v1/customers/{one}-ws{asked}", status=404, code="not_found")
        assert f"it is an alias of {one}." in refusal["detail"] and one in refusal["remedy"]
    for alias in (f"{one}-ws", one):
        refusal = await front.refused(
            "POST", f"/v1/customers/{other}/aliases", {"alias": alias}, status=409, code="conflict"
        )
        assert "alias" in refusal["fields"]
    facts = {"name": "N", "email": "a@b", "country": "DE"}
    refusal = await front.refused(
        "POST", "/v1/customers", {**facts, "aliases": ["free", f"{one}-ws"]}, status=409, code="conflict"
    )
    assert set(refusal["fields"]) == {"aliases.1"}
    await front.refused("POST", "/v1/customers", {**facts, "id": f"{one}-ws"}, status=409, code="conflict")
    assert (await send(front, [event(subject=f"{one}-ws")]))["accepted"] == 1
    assert (await total(front, one), await total(front, other)) == (1, 0)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**40)
anything = st.recursive(leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3))
plausible = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["a", "b"]),
        "id": st.sampled_from("123456") | names,
        "subject": st.sampled_from(["fuzzed", "fuzzed", "unknown"]),
        "type": st.sampled_from(["llm", "llm", "other"]),
        "time": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-31T23:30:00Z", "2026-05-05T00:00:00.123+05:45"]),
        "data": st.dictionaries(st.sampled_from("nm") | names, st.integers(-(10**20), 10**20), max_size=3),
    }
)
spoilt = st.tuples(plausible, st.sampled_from(["source", "id", "subject", "type", "time", "data", "x"]), anything).map(
    lambda t: {**t[0], t[1]: t[2]}
)
batches = st.fixed_dictionaries({"events": st.lists(plausible, min_size=1, max_size=12)})
bodies = (
    batches
    | batches
    | st.fixed_dictionaries({"events": st.lists(plausible | spoilt, min_size=1, max_size=5)})
    | anything
).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


async def test_whatever_is_sent_the_books_of_usage_hold(front: Front) -> None:
    """accepted + duplicate + quarantined is what was sent, and totals are the sum of what was accepted."""
    await front.customer("fuzzed")
    sent: list[bytes] = []

    @settings(max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies)
    def draw(body: bytes) -> None:
        sent.append(body)

    draw()
    accepted: dict[tuple[str, str], Decimal] = {}
    good = 0
    for body in sent:
        answer: httpx.Response = await front.api.post("/v1/events", content=body)
        if answer.status_code not in (200, 207):
            assert problem(answer, 422, "invalid_events")["errors"]
            continue
        good += 1
        events = json.loads(body)["events"]
        receipt = answer.json()
        told = {one["index"] for one in receipt.pop("events")}
        assert sum(receipt.values()) == len(events)
        for e in (e for index, e in enumerate(events) if index not in told):
            assert e["subject"] == "fuzzed"
            assert (e["source"], e["id"]) not in accepted
            accepted[e["source"], e["id"]] = Decimal((e["data"].get("n") or 0) if e["type"] == "llm" else 0)
    assert good > 50 < len(sent) - good
    assert await total(front, "fuzzed") == sum(accepted.values())
    counted = front.rows("select count(*) from usage_event where customer_id = 'fuzzed'")
    assert counted == [(len(accepted),)]
