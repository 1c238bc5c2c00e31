"""Garbage by the thousand at the door for events: refused with a reason, never an error of ours, never half stored."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import httpx
import pytest
from backports import zstd

from tests.api.conftest import Front, problem

pytestmark = pytest.mark.anyio

MANY = 20_000
"""Requests that are refused or of whose events some are invalid; those that turn out to be fine come on top."""
AT_ONCE = 16
SUBJECT = "garbage"
OUTCOMES = ("accepted", "duplicate", "conflict", "quarantined", "invalid")

NASTY = r"""
null true false 0 -0 1 -1 1.5 1e400 -1e400 1e30 1e-31 1e999999999 1e-999999999 0e999999999 1e99999999999999999999
NaN Infinity -Infinity +1 01 .5 5. 0x10 1_000 1e 1e+ -- - ' " nul tru undefined [ ] { } , : [] {} [,] {,} [1,] {"n"} //
"" "\t" "x" "\u0000" "a\u0000b" "\\u0000" "\ud800" "\udc00\ud800" "\ud83d\ude00" "\u12" "\x" "\" "\\" "\/" "llm" "𝄞"
{"n":1e400} {"n":NaN} {"n":[]} {"n":true} {"n":"1"} {"\u0000":1} {"\ud800":1} {"n":1,"n":{}} {"m":[{}]} {"n":1}}
"2026-01-05" "2026-01-05T00:00:00" "2026-13-05T00:00:00Z" "2026-02-30T00:00:00Z" "2026-01-05T24:00:00Z"
"2026-01-05T00:00:60Z" "0000-00-00T00:00:00Z" "9999-12-31T23:59:59-23:59" "2026-01-05T00:00:00+99:99"
"+2026-01-05T00:00:00Z" "2026-01-05T00:00:00.0000000000001Z" "1969-12-31T23:59:59Z" "2200-01-01T00:00Z"
""".split()
NASTY += [text * 4_999 for text in "9[{"] + [json.dumps("x" * many) for many in (199, 200, 201, 100_000)]
"""What stands in a value's place: JSON of another type or size, and what is no JSON."""
RAW = [
    b"\0",
    b"\x01",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\x1f\x8b",
    b'"',
    b"\\",
]
"""Bytes that stand in no JSON text, or not so."""

MEDIA = [
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-ndjson",
    "application/jsonl; charset=utf-16",
    "application/json; charset=utf-7",
    "text/plain",
    "text/xml",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "*/*",
    ";",
    "",
    "x" * 5_000,
]
ENCODINGS = ["", "identity", "gzip", "GZIP", "zstd", "br", "deflate", "gzip, zstd", "zstd, gzip", "utf-8", "*", "\xff"]
WITH_CHECKSUM = {zstd.CompressionParameter.checksum_flag: 1}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, 6),
    "zstd": lambda body: zstd.compress(body, options=WITH_CHECKSUM),
}
MARK = "@mark@"


@dataclass(frozen=True)
class Case:
    """A request; `token` stands in the source, the id and the data of its events, so that they are found again."""

    token: str
    body: bytes
    media: str = "application/json"
    encoding: str = ""
    events: int | None = None
    """How many events it holds, if it can be read at all and that is known."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        named = {"content-type": self.media, "content-encoding": self.encoding}
        return [(name.encode(), value.encode("latin-1")) for name, value in named.items() if value]


class Drawing:
    """Cases by chance, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.kinds = [
            (self.nasty_value, 9),
            (self.other_fields, 3),
            (self.broken_bytes, 5),
            (self.broken_packing, 4),
            (self.other_headers, 3),
            (self.deep, 1),
            (self.no_events, 2),
            (self.twice, 1),
        ]

    def all(self) -> Iterator[Case]:
        kinds, weights = zip(*self.kinds, strict=True)
        for no in count():
            draw = self.large if no % 800 == 400 else self.chance.choices(kinds, weights)[0]
            yield draw(f"{self.chance.getrandbits(48):012x}")

    def event(self, token: str, no: int, **other: Any) -> dict[str, Any]:
        made = {
            "source": f"s-{token}",
            "id": f"{token}-{no}",
            "subject": self.chance.choice([SUBJECT] * 9 + ["nobody"]),
            "type": self.chance.choice(["llm", "llm", "other"]),
            "time": "2026-01-05T00:00:00Z",
            "data": {"n": no, "user": "u", "of": token},
        }
        if self.chance.random() < 0.3:
            made |= {"specversion": "1.0", "region": "eu"}
        return made | other

    def events(self, token: str) -> list[dict[str, Any]]:
        return [self.event(token, no) for no in range(self.chance.choice([1, 1, 2, 3, 5]))]

    def written(self, token: str, events: list[dict[str, Any]], mark: bytes = b"") -> Case:
        """In one form or another; `mark` stands where the events say `MARK`."""
        texts = [
            json.dumps(one).replace(json.dumps(MARK), MARK).encode().replace(MARK.encode(), mark) for one in events
        ]
        media = self.chance.choice(MEDIA[:4])
        if media == "application/x-ndjson":
            body = b"\n".join(texts)
        elif len(texts) == 1 and self.chance.random() < 0.5:
            body = texts[0]
        else:
            listed = b"[" + b",".join(texts) + b"]"
            body = self.chance.choice([listed, b'{"events":' + listed + b"}"])
        return Case(token, body, media, events=len(events))

    def nasty_value(self, token: str) -> Case:
        events = self.events(token)
        one = self.chance.choice(events)
        field = self.chance.choice([*one, "data", "data"])
        if field == "data" and self.chance.random() < 0.7:
            one = one["data"]
            field = self.chance.choice([*one, "other"])
        one[field] = MARK
        nasty = self.chance.choice(NASTY).encode() if self.chance.random() < 0.8 else self.number()
        if self.chance.random() < 0.1:
            nasty = b'"%b"' % self.chance.choice(RAW)
        return self.written(token, events, nasty)

    def number(self) -> bytes:
        digits = "".join(self.chance.choices("0123456789", k=self.chance.choice([1, 29, 30, 31, 400])))
        point = self.chance.choice(["", ".", ".5", "." + digits])
        exponent = self.chance.choice(
            ["", "e", f"e{self.chance.randint(-40, 40)}", f"E+{self.chance.randint(0, 10**6)}"]
        )
        return f"{self.chance.choice(['', '-'])}{digits}{point}{exponent}".encode()

    def other_fields(self, token: str) -> Case:
        events = self.events(token)
        one = self.chance.choice(events)
        how = self.chance.choice(["without", "more", "renamed"])
        field = self.chance.choice(list(one))
        if how != "more":
            value = one.pop(field)
            if how == "renamed":
                one[self.chance.choice([field.upper(), f" {field}", f"{field}\u200b", "", "é", "\\"])] = value
        else:
            one[
                self.chance.choice(["x", "Data", "specversion", "data_base64", "datacontenttype", "n", "a" * 21, "$"])
            ] = self.chance.choice([None, 1, "1.0", "text/xml", [], {"a": 1}])
        return self.written(token, events)

    def spoilt(self, body: bytes) -> bytes:
        """Some bytes changed, put in, left out, or the end cut off."""
        out = bytearray(body)
        for _ in range(self.chance.choice([1, 1, 2])):  # Of three tokens one stays whole.
            at = self.chance.randrange(len(out)) if out else 0
            match self.chance.randrange(5):
                case 0 if out:
                    out[at] ^= 1 << self.chance.randrange(8)
                case 1:
                    out[at:at] = self.chance.choice([*RAW, self.chance.randbytes(3)])
                case 2:
                    del out[at : at + self.chance.randint(1, 9)]
                case 3:
                    del out[at:]
                case _:
                    out[at:at] = self.chance.choice(NASTY)[:100].encode()
        return bytes(out)

    def broken_bytes(self, token: str) -> Case:
        whole = self.written(token, self.events(token))
        if self.chance.random() < 0.1:
            other = self.chance.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037"])
            return Case(token, whole.body.decode().encode(other), whole.media)
        return Case(token, self.spoilt(whole.body), whole.media)

    def broken_packing(self, token: str) -> Case:
        whole = self.written(token, self.events(token))
        encoding, pack = self.chance.choice(list(PACKED.items()))
        packed = pack(whole.body)
        match self.chance.randrange(5):
            case 0:
                packed += self.chance.choice([b"\0", b"more", packed])
            case 1:
                encoding = "zstd" if encoding == "gzip" else "gzip"
            case 2:
                packed = pack(packed)
            case 3:
                packed = whole.body
            case _:
                packed = self.spoilt(packed)
        return Case(token, packed, whole.media, encoding)

    def other_headers(self, token: str) -> Case:
        whole = self.written(token, self.events(token))
        return Case(token, whole.body, self.chance.choice(MEDIA), self.chance.choice(ENCODINGS))

    def deep(self, token: str) -> Case:
        depth = self.chance.choice([10, 100, 400, self.chance.randint(800, 1100), 3_000, 20_000])
        opened, closed = self.chance.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"n":', b"}]")])
        ends = closed * depth if self.chance.random() < 0.8 else b""
        events = [self.event(token, 0, data={"of": token, self.chance.choice("nx"): MARK})]
        return self.written(token, events, opened * depth + b"1" + ends)

    def no_events(self, token: str) -> Case:
        inner: Any = self.chance.choice(
            json.loads('[null, 1, "x", [], {}, [[]], {"events": []}, {"id": 1}, [null, 1]]')
        )
        for _ in range(self.chance.randrange(3)):
            inner = self.chance.choice(
                [[inner], {"events": inner}, {"events": [inner]}, {"data": inner}, [inner, inner]]
            )
        body = json.dumps(inner).encode()
        return Case(
            token, self.chance.choice([body, body, b"", b"\n\n", self.chance.randbytes(40)]), self.chance.choice(MEDIA)
        )

    def twice(self, token: str) -> Case:
        events = self.events(token)
        again = [{**one, "data": {**one["data"], "n": self.chance.choice([one["data"]["n"], 7])}} for one in events]
        return self.written(token, events + again)

    def large(self, token: str) -> Case:
        encoding, pack = self.chance.choice(list(PACKED.items()))
        which = self.chance.randrange(5)
        if which == 0:
            return Case(token, pack(b" " * (66 << 20)), self.chance.choice(MEDIA[:4]), encoding)
        lines = b"\n".join(json.dumps(self.event(token, no)).encode() for no in range(6_000))
        match which:
            case 1:
                return Case(token, pack(lines)[:-5], "application/x-ndjson", encoding)
            case 2:
                return Case(token, lines + b"\n" + b"x" * (1 << 21), "application/x-ndjson")
            case 3:
                return Case(token, b"[" + b",".join([b"{}"] * 10_001) + b"]")
            case _:
                return Case(token, lines.replace(b'"n": 1', b'"n": NaN'), "application/x-ndjson", events=6_000)


async def test_garbage_is_answered_with_reasons_and_what_is_stored_is_what_was_answered(front: Front) -> None:
    await front.customer(SUBJECT)
    about = {"name": "M", "event_type": "llm", "unit": "u"}
    await front.post("/v1/meters", {"id": "users", "aggregation": "unique", "quantity_field": "user", **about})
    await front.post("/v1/meters", {"id": "by_user", "quantity_field": "n", "dimensions": ["user"], **about})
    cases, told, statuses = Drawing(4).all(), dict[str, Counter[str]](), Counter[int]()
    malformed = Counter[bool]()

    async def client() -> None:
        while malformed[True] < MANY:
            case = next(cases)
            response = await answer_to(front, case)
            told[case.token] = taken_in(case, response)
            statuses[response.status_code] += 1
            malformed[response.is_client_error or told[case.token]["invalid"] > 0] += 1

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(client)
    assert len(told) == statuses.total()
    assert {200, 207, 413, 415, 422} == set(statuses)
    assert malformed[False] < MANY / 3, "much of it is no garbage"
    assert whose(front, "usage_event", told) == {token: n["accepted"] for token, n in told.items() if n["accepted"]}
    assert whose(front, "usage_quarantine", told) == {
        token: n["quarantined"] for token, n in told.items() if n["quarantined"]
    }
    assert front.rows("select count(*) from usage_key") == front.rows("select count(*) from usage_event")
    for outcome in ("accepted", "duplicate", "conflict"):
        answered = front.rows("select coalesce(sum(events), 0) from usage_answered where outcome = %s", outcome)
        assert answered[0][0] <= sum(n[outcome] for n in told.values())
    [(stored,)] = front.rows("select sum((data ->> 'n')::numeric) from usage_event where 'tokens' = any(meters)")
    assert [(stored,)] == front.rows("select sum(quantity) from usage_total where meter_id = 'tokens'")


async def answer_to(front: Front, case: Case) -> httpx.Response:
    """The answer, asked of the application itself: a client would take longer to write requests than it to answer."""
    came: list[Any] = []
    body = iter([{"type": "http.request", "body": case.body}])

    async def receive() -> Any:
        return next(body)

    async def send(message: Any) -> None:
        came.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {front.house.key}".encode()), *case.headers],
        "client": ("127.0.0.1", 1),
        "server": ("perennial.test", 80),
    }
    await front.house.app(scope, receive, send)
    start, *parts = came
    return httpx.Response(start["status"], headers=start["headers"], content=b"".join(m["body"] for m in parts))


def taken_in(case: Case, response: httpx.Response) -> Counter[str]:
    """What the answer says became of the events, proved to be whole."""
    status = response.status_code
    if status not in (200, 207):
        assert 400 <= status < 500, (status, case.headers, case.body[:2_000])
        refusal = problem(response, status)
        assert refusal["errors"] or refusal["code"] != "invalid_events", case
        so_far = refusal["detail"].partition("events were answered for before: ")[2]  # Of a stream that ended badly.
        return Counter({outcome: int(many) for many, outcome in re.findall(r"(\d+) (\w+)", so_far)})
    receipt: dict[str, Any] = response.json()
    listed = receipt.pop("events")
    assert tuple(receipt) == OUTCOMES
    total = sum(receipt.values())
    assert case.events in (None, total), case
    assert Counter(one["outcome"] for one in listed) == +Counter(receipt) - Counter(accepted=receipt["accepted"])
    indexes = [one["index"] for one in listed]
    assert indexes == sorted(set(indexes)) and all(0 <= index < total for index in indexes)
    assert all(one.get("reason") for one in listed if one["outcome"] != "duplicate"), listed
    assert (status == 207) == bool(receipt["invalid"] or receipt["conflict"])
    return Counter(receipt)


def whose(front: Front, table: str, tokens: dict[str, Counter[str]]) -> dict[str, int]:
    """How many rows there are of each case; a row is found by what its source, its id or its data still says."""
    content = "data" if table == "usage_event" else "event"
    found: Counter[str] = Counter()
    for row in front.rows(f"select source, id, {content}::text from {table}"):
        text = " ".join(row)
        named = {text[at : at + 12] for at in range(len(text)) if text[at : at + 12] in tokens}
        assert len(named) == 1, (table, row)
        found[named.pop()] += 1
    return dict(found)
