"""The console as a browser sees it: asked for a key, pages with data, and nothing that a customer wrote is markup."""

from __future__ import annotations

import base64
from collections import Counter
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from models.api_key import create_key
from models.database import transaction
from tests.conftest import CUSTOMER, ENTITY, House
from web.error_page import preferred

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


class Page(HTMLParser):
    """What a browser would make of it: tags, their attributes, the text and the links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href" and tag == "a"]

    def handle_data(self, data: str) -> None:
        self.text += data


async def visit(house: House, path: str, key: str | None = None, user: str = "me") -> httpx.Response:
    basic = base64.b64encode(f"{user}:{house.key if key is None else key}".encode()).decode()
    return await house.api.get(path, headers={"Authorization": f"Basic {basic}"})


async def test_a_browser_is_asked_for_a_key(house: Any) -> None:
    assert (await house.api.get("/")).headers["location"] == "/console"
    with transaction(house.engine) as session:
        reader, ingester = create_key(session, "r", ["read"]), create_key(session, "i", ["ingest"])
    for path in ("/console", "/console/invoices/none"):
        for given in ({"Authorization": ""}, {}, {"Authorization": "Basic !!"}, {"Authorization": "Basic bWU="}):
            answer = await house.api.get(path, headers=given)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Basic realm="Perennial"'
        for wrong in ("", "x", reader + "x", "key_0.x"):
            answer = await visit(house, path, wrong)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="Perennial"')
        assert (await visit(house, path, ingester)).status_code == 403
    assert (await visit(house, "/console", reader, user="anyone")).status_code == 200
    assert (await visit(house, "/console/invoices/none", reader)).status_code == 404


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def test_a_browser_gets_errors_as_pages_with_the_same_words(house: Any) -> None:
    basic = base64.b64encode(f"me:{house.key}".encode()).decode()
    for path, status, key in (
        ("/console", 401, ""),
        ("/console/invoices/<b>", 404, basic),
        ("/console/no", 404, basic),
    ):
        given = {"Authorization": f"Basic {key}"} if key else {"Authorization": ""}
        problem = await house.api.get(path, headers=given)
        page = await house.api.get(path, headers={**given, "Accept": BROWSER})
        assert page.status_code == problem.status_code == status
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers.get("www-authenticate") == problem.headers.get("www-authenticate")
        seen, said = Page(page.text), problem.json()
        assert said["remedy"] and all(said[name] in seen.text for name in ("title", "detail", "remedy", "code"))
        assert seen.tags["b"] == 0
    answer = await house.api.delete("/console", headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    outside = await house.api.get("/v1/customers/none", headers={"Accept": BROWSER})
    assert outside.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("accept", "media"),
    [("", ""), ("*/*", "*/*"), (BROWSER, "text/html"), ("application/json, text/html;q=0.9", "application/json"),
     ("text/html;q=x, a/b;q=0.1", "a/b")],
)  # fmt: skip
def test_what_is_preferred_stands_highest(accept: str, media: str) -> None:
    assert preferred(accept) == media


async def test_pages_show_what_there_is_and_nothing_that_was_written_is_markup(house: Any) -> None:
    empty = Page((await visit(house, "/console")).text)
    assert empty.text.count("None yet.") == 2 and "Nothing is planned." in empty.text
    await house.cast("2025-12-30T09:00:00Z", date(2026, 1, 1))
    hostile = {"id": "evil", "name": HOSTILE, "email": "<b>@<i>", "country": "DE", "address": HOSTILE}
    await house.post("/v1/customers", hostile)
    plan = {
        "name": HOSTILE,
        "currency": "EUR",
        "items": [{"key": "<u>", "name": HOSTILE, "price": {"kind": "flat", "amount": "100"}}],
    }
    await house.put("/v1/plans/evil", plan)
    agreed = {"customer": "evil", "entity": "acme", "plan": "evil", "starts_on": "2026-01-01"}
    await house.post("/v1/subscriptions", {**agreed, "id": "sub", "purchase_order": HOSTILE})
    event = {"source": HOSTILE, "id": HOSTILE, "subject": HOSTILE, "type": HOSTILE, "time": "2026-01-05T00:00:00Z"}
    await house.post("/v1/events", {"events": [event]})
    await house.advance("clk", datetime(2026, 2, 6, tzinfo=UTC))

    answer = await visit(house, "/console")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    overview = Page(answer.text)
    for said in ("ACME-000002", "119.00 EUR", "January 2026", "awaiting approval", HOSTILE, "subscription/sub"):
        assert said in overview.text, said
    (one, *_), tasks = [link for link in overview.links if "/invoices/" in link], await house.get("/v1/tasks")
    assert tasks and all(task["reason"] in overview.text for task in tasks)
    page = Page((await visit(house, one)).text)
    assert HOSTILE in page.text and "119.00 EUR" in page.text and "19% on 100.00 EUR" in page.text
    for seen in (overview, page):
        assert not {"script", "img", "b", "i", "u"} & set(seen.tags) - {"b"}
        assert not {name for name in seen.attributes if name.startswith("on")} | {"src"} & seen.attributes
    close = Page((await visit(house, "/console/closes/acme/2026-01")).text)
    for said in ("awaiting approval", "nobody yet", "14 of 14", "Contract position", "live totals", "0.00 EUR"):
        assert said in close.text, said
    assert (await visit(house, "/console/closes/acme/2026-1")).status_code == 422
    for link in {*overview.links, *page.links, *close.links}:
        assert (await visit(house, link)).status_code == 200, link
    paper = await visit(house, f"{one}/pdf")
    assert paper.content.startswith(b"%PDF") if paper.status_code == 200 else "is not printed yet" in paper.text


async def test_the_newest_invoices_come_first_whatever_their_numbers(house: Any) -> None:
    await house.cast("2025-12-30T09:00:00Z", date(2026, 1, 1))
    other = {**ENTITY, "id": "aaa", "clock": "clk", "books_from": "2026-01-01"}
    await house.post("/v1/entities", other)
    await house.post("/v1/customers", {**CUSTOMER, "id": "cus2"})
    for customer, entity, starts_on in (("cus", "acme", "2026-01-01"), ("cus2", "aaa", "2026-01-05")):
        agreed = {"customer": customer, "entity": entity, "plan": "team", "starts_on": starts_on}
        await house.post("/v1/subscriptions", agreed)
    await house.advance("clk", datetime(2026, 1, 6, tzinfo=UTC))
    text = Page((await visit(house, "/console")).text).text
    assert text.index("AAA-000001") < text.index("ACME-000001")
