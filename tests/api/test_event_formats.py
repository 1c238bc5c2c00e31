"""How events may be written: sizes, packing, CloudEvents and plain JSON, and streams of lines."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from backports import zstd

from api import event_formats
from api.bodies import MEBIBYTE
from tests.api.conftest import Front, problem
from tests.api.test_events import batch, event, total

pytestmark = pytest.mark.anyio


async def test_sizes(front: Front) -> None:
    too_much = b" " * (16 * 1024 * 1024) + batch()

    async def in_parts() -> AsyncIterator[bytes]:
        for start in range(0, len(too_much), 1 << 20):
            yield too_much[start : start + (1 << 20)]

    before = front.rows("select count(*) from usage_event")
    problem(await front.api.post("/v1/events", content=too_much), 413, "too_large")
    problem(await front.api.post("/v1/events", content=in_parts()), 413, "too_large")
    refusal = problem(await front.api.post("/v1/events", content=b"x" * (2 << 20), headers=LINES), 413, "too_large")
    assert refusal["detail"].startswith("Line 1 ") and "--data-binary" in refusal["remedy"]
    problem(await front.api.post("/webhooks/pretend", content=b"x" * (1 << 20) + b"x"), 413, "too_large")
    problem(await front.api.post("/v1/meters", content=b" " * (1 << 20) + b"{}"), 413, "too_large")
    lies = {"content-length": "9" * 30}
    problem(await front.api.post("/v1/meters", content=b"{}", headers=lies), 413, "too_large")
    assert front.rows("select count(*) from usage_event") == before


LINES = {"content-type": "application/x-ndjson"}
PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("how", PACKED)
async def test_packed_bodies(front: Front, how: str) -> None:
    customer = await front.customer()
    events = [event(subject=customer) for _ in range(3000)]
    body, packed = json.dumps({"events": events}).encode(), {"content-encoding": how}
    lines = "\n".join(json.dumps(e) for e in events).encode()
    answer = await front.api.post("/v1/events", content=PACKED[how](body), headers=packed)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 3000)
    answer = await front.api.post("/v1/events", content=PACKED[how](lines), headers={**packed, **LINES})
    assert (answer.status_code, answer.json()["duplicate"]) == (200, 3000)
    bomb = PACKED[how](b" " * (100 << 20))
    assert len(bomb) < 200_000
    problem(await front.api.post("/v1/events", content=bomb, headers=packed), 413, "too_large")
    problem(await front.api.post("/v1/events", content=bomb, headers={**packed, **LINES}), 413, "too_large")
    for broken in (PACKED[how](body)[:-9], PACKED[how](body) + b"more", body, b""):
        problem(await front.api.post("/v1/events", content=broken, headers=packed), 422, "invalid_body")
    brotli = {"content-encoding": "br"}
    problem(await front.api.post("/v1/events", content=body, headers=brotli), 415, "unsupported_encoding")
    assert await total(front, customer) == 3000


@pytest.mark.parametrize("how", PACKED)
async def test_bodies_packed_in_several_parts(front: Front, how: str) -> None:
    pack, packed = PACKED[how], {"content-encoding": how}
    customer = await front.customer()
    events = [event(subject=customer) for _ in range(3000)]
    body, line = json.dumps(events).encode(), json.dumps(event(subject=customer)).encode() + b"\n"
    for size in (31, 100_000):
        parts = b"".join(pack(body[start : start + size]) for start in range(0, len(body), size)) + pack(b"")
        for step in (len(parts), 1021):
            answer = await front.api.post("/v1/events", content=cut(parts, step), headers=packed)
            assert answer.json()["accepted"] + answer.json()["duplicate"] == 3000, answer.text
    answer = await front.api.post("/v1/events", content=pack(line) + pack(b"\n" + line), headers={**packed, **LINES})
    assert (answer.json()["accepted"], answer.json()["duplicate"]) == (1, 1)
    assert await total(front, customer) == 3001
    bomb, large = pack(b" " * MEBIBYTE) * 100, pack(random.Random(1).randbytes(9 * MEBIBYTE)) * 2
    for wrong in (bomb, pack(line) + bomb, large):
        problem(await front.api.post("/v1/events", content=wrong, headers=packed), 413, "too_large")
    for end in (b"\0", b"more", b"more than the head of a part", pack(body)[:-9], pack(body)[:5]):
        broken = pack(body) * 2 + end
        problem(await front.api.post("/v1/events", content=broken, headers=packed), 422, "invalid_body")


async def cut(body: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), step):
        yield body[start : start + step]


async def test_each_way_to_write_an_event(front: Front) -> None:
    customer = await front.customer()
    cloud = {"specversion": "1.0", "datacontenttype": "application/json; charset=utf-8", "dataschema": "urn:x"}
    one = [event(subject=customer) for _ in range(5)]
    bodies: list[tuple[str, Any, int]] = [
        ("application/json", one[0], 1),
        ("application/json", one[1:3], 2),
        ("application/json", {"events": [one[3]]}, 1),
        ("application/cloudevents+json; charset=utf-8", event(subject=customer, **cloud), 1),
        ("application/cloudevents-batch+json", [event(subject=customer, **cloud) for _ in range(3)], 3),
        ("application/cloudevents+json", event(subject=customer, **cloud, traceparent="00-ab", data=None), 1),
        ("application/json", [one[4], event(subject=customer, **cloud)], 2),
    ]
    for media, body, many in bodies:
        answer = await front.api.post("/v1/events", content=json.dumps(body), headers={"content-type": media})
        assert (answer.status_code, answer.json()["accepted"]) == (200, many), answer.text
    assert await total(front, customer) == 10
    kept = front.rows("select data::text from usage_event where customer_id = %s", customer)
    assert ('{"traceparent":"00-ab"}',) in kept


OTHER = (
    "text/csv",
    "application/x-www-form-urlencoded",
    "text/plain; charset=utf-8",
    "*/*",
    "application/jsonx",
    "json",
)
DOCUMENTED = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    LINES["content-type"],
)


async def test_what_is_said_to_be_neither_json_nor_lines_is_not_read(front: Front) -> None:
    customer = await front.customer()
    body = json.dumps(event(subject=customer))
    for path in ("/v1/events", "/v1/events/preview"):
        for media in OTHER:
            refusal = problem(
                await front.api.post(path, content=body, headers={"content-type": media}), 415, "unsupported_media_type"
            )
            assert repr(media.partition(";")[0]) in refusal["detail"]
            assert all(name in refusal["remedy"] for name in DOCUMENTED) and "--data-binary" in refusal["remedy"]
        for media in ("application/vnd.x.y+json; charset=utf-8", "APPLICATION/JSON", "text/json", ""):
            answer = await front.api.post(path, content=body, headers={"content-type": media} if media else {})
            assert answer.status_code == 200, answer.text
    assert await total(front, customer) == 1
    problem(await front.api.post("/v1/events/preview", content=body, headers=LINES), 415, "unsupported_media_type")


async def test_lines_that_lost_their_ends_are_told_how_to_keep_them(front: Front) -> None:
    """As curl -d @events.ndjson sends them."""
    customer = await front.customer()
    body = "".join(json.dumps(event(subject=customer)) for _ in range(3))
    for text in (body, body.replace("}{", "}\n{")):
        refusal = await front.refused("POST", "/v1/events", text.encode(), status=422, code="invalid_events")
        assert "application/x-ndjson" in refusal["remedy"] and "--data-binary" in refusal["remedy"]
    refusal = problem(await front.api.post("/v1/events", content=body, headers=LINES), 422, "invalid_events")
    assert "--data-binary" in refusal["fields"]["events.0"]
    for other in (b"[] []", b'{"id": 1', b"{}"):
        refusal = await front.refused("POST", "/v1/events", other, status=422, code="invalid_events")
        assert "--data-binary" not in refusal["remedy"]


async def test_what_is_not_supported_of_cloud_events_says_so(front: Front) -> None:
    binary = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "s",
        "ce-type": "llm",
        "content-type": "application/json",
    }
    refusal = problem(await front.api.post("/v1/events", content=b'{"n": 1}', headers=binary), 415)
    assert "binary mode" in refusal["detail"] and "structured mode" in refusal["remedy"]
    customer = await front.customer()
    whole = event(subject=customer, specversion="1.0")
    both = {**binary, "content-type": "application/cloudevents+json"}  # As the standard allows in structured mode, too.
    answer = await front.api.post("/v1/events", content=json.dumps(whole), headers=both)
    assert answer.json()["accepted"] == 1, answer.text
    for field, value in (("data_base64", "AA=="), ("datacontenttype", "text/xml")):
        wrong = json.dumps({**whole, field: value}).encode()
        refusal = await front.refused("POST", "/v1/events", wrong, status=422, code="invalid_events")
        assert "supported" in refusal["fields"][f"events.0.{field}"]


async def test_a_name_is_repeated_and_looked_for_within_bounds(front: Front) -> None:
    long = "n" * 500_000
    wrong = [{**event(), "subjectt": "x"} for _ in range(event_formats.MOST_HINTS + 1)]
    body = [*wrong, {**event(), long: 1}, {**event(), f"{long}\n": 1}, {**event(), "specversion": "1.0", long: 1}]
    errors = problem(await front.api.post("/v1/events", json=body), 422, "invalid_events")["errors"]
    said = [one["reason"] for one in errors]
    assert said[:-3] == ["there is no field `subjectt`; did you mean subject"] * 20 + ["there is no field `subjectt`"]
    assert said[-3] == f"there is no field `{'n' * 100}`"
    assert max(len(one["field"] + one["reason"]) for one in errors) < 500
    assert [one["field"].split(".")[1] for one in errors] == [str(n) for n in range(len(body))]


@pytest.mark.parametrize("brackets", [('{"a":', "}"), ("[", "]")])
async def test_data_is_nested_within_bounds(front: Front, brackets: tuple[str, str]) -> None:
    """Also in a body so large that it is read by another thread, where Python could read a little deeper."""
    opening, closing = brackets

    def nested(levels: int) -> str:
        """Levels of data, itself included."""
        data = json.dumps(event(data={"deep": "?"}))
        return data.replace('"?"', opening * (levels - 1) + "1" + closing * (levels - 1))

    wide = json.dumps(event(data={"wide": [[{}]] * 300}))
    for padding in ("", "x" * MEBIBYTE):
        some = [nested(100), wide, json.dumps(event(data={"padding": padding}))]
        answer = await front.api.post("/v1/events", content=f"[{','.join([*some, nested(101), nested(500)])}]")
        assert too_deep(answer) == {3, 4}
        answer = await front.api.post(
            "/v1/events", content="\n".join([*some, nested(101), nested(990), nested(5000)]), headers=LINES
        )
        assert too_deep(answer) == {3, 4, 5}


async def test_a_batch_that_python_cannot_read_says_how_to_send_the_others(front: Front) -> None:
    deep = "[" * 5000 + "]" * 5000
    content = f'[{json.dumps(event())}, {{"data": {deep}}}]'
    refusal = problem(await front.api.post("/v1/events", content=content), 422, "invalid_events")
    assert "nested deeper than 100 levels" in refusal["errors"][0]["reason"]
    assert "application/x-ndjson" in refusal["remedy"]


async def test_what_counts_instead_is_nested_no_deeper(front: Front) -> None:
    data = json.loads('{"a":' * 100 + "1" + "}" * 100)
    body = {"corrections": [{"source": "s", "id": "1", "reason": "wrong", "instead": event(data={"b": data})}]}
    refusal = await front.refused("POST", "/v1/events/corrections", body, status=422, code="invalid_request")
    assert "nested deeper" in refusal["errors"][0]["reason"]


def too_deep(answer: httpx.Response) -> set[int]:
    invalid = {one["index"]: one for one in answer.json()["events"] if one["outcome"] == "invalid"}
    assert all("nested deeper than 100 levels" in one["reason"] for one in invalid.values())
    return set(invalid)


async def test_too_many_events_are_told_how_to_be_sent(front: Front) -> None:
    many = [event() for _ in range(10_001)]
    for body in (many, {"events": many}):
        refusal = await front.refused("POST", "/v1/events", body, status=422, code="invalid_events")
        assert "in parts of at most 10,000" in refusal["remedy"] and "application/x-ndjson" in refusal["remedy"]
    refusal = await front.refused("POST", "/v1/events", [], status=422, code="invalid_events")
    assert "in parts" not in refusal["remedy"]


async def test_a_field_of_data_makes_no_cloud_event(front: Front) -> None:
    customer = await front.customer()
    data = {"n": 1, "specversion": "1.0"}
    plain, cloud = [event(subject=customer, data=data, **more) for more in ({}, {"specversion": "1.0", "region": "eu"})]
    ways: list[tuple[Any, dict[str, str], int]] = [
        ({"events": [plain]}, {}, 1),
        (plain, {}, 1),
        (plain, LINES, 1),
        ([plain], {}, 1),
        ({"events": [plain, cloud, {"source": "x"}]}, {}, 2),
    ]
    for body, headers, many in ways:
        answer = await front.api.post("/v1/events", content=json.dumps(body), headers=headers)
        assert answer.json().get("accepted", 0) + answer.json().get("duplicate", 0) == many, answer.text
    kept = front.rows("select data::jsonb from usage_event where customer_id = %s order by 1", customer)
    assert kept == [(data,), (data | {"region": "eu"},)]


async def test_a_stream_of_lines_is_taken_in_as_it_comes(front: Front) -> None:
    customer = await front.customer()
    events = [event(subject=customer, data={"n": n}) for n in range(12_000)]

    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, len(events), 997):
            text = "".join(json.dumps(e) + "\r\n\n" for e in events[start : start + 997]).encode()
            yield text[:-400]
            if start > 11_000:
                assert await total(front, customer) > 0
                yield b'{"not": "an event"}\nno JSON\n'
            yield text[-400:]

    answer = await front.api.post("/v1/events", content=lines(), headers=LINES)
    told = answer.json().pop("events")
    assert (answer.status_code, answer.json()["invalid"], answer.json()["accepted"]) == (207, 3, 11_999)
    assert [one["outcome"] for one in told] == ["invalid"] * 3
    assert await total(front, customer) in range(sum(range(12_000)) - 12_000, sum(range(12_000)))
    long = b"".join(json.dumps(e).encode() + b"\n" for e in events[:6000]) + b"x" * (2 << 20)
    refusal = problem(await front.api.post("/v1/events", content=b"\n" + long, headers=LINES), 413, "too_large")
    assert refusal["detail"].startswith("Line 6002 is larger than 1 MiB.")
    for nothing in (b"", b"\n\n"):
        problem(await front.api.post("/v1/events", content=nothing, headers=LINES), 422, "invalid_events")
