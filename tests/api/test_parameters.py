"""Parameters of the query: what a route does not have, and what is said twice, is refused, not left out of account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.parameters import MOST_NAMED, STRICT, declared
from tests.api.conftest import Front
from tests.api.test_events import event
from tests.conftest import application

pytestmark = pytest.mark.anyio

APP = application()
OPERATIONS = [(m.upper(), path, said) for path, by in APP.openapi()["paths"].items() for m, said in by.items()]
ASKED = [(method, path) for method, path, _ in OPERATIONS if path.startswith(STRICT)]


def routes(nodes: Any) -> Iterator[APIRoute]:
    for node in nodes:
        if hasattr(node, "original_router"):
            yield from routes(node.original_router.routes)
        elif isinstance(node, APIRoute):
            yield node


def test_the_parameters_of_a_route_are_those_of_the_document() -> None:
    documented = {
        (method, path): {
            p["name"]: p["schema"].get("type") == "array" for p in said.get("parameters", ()) if p["in"] == "query"
        }
        for method, path, said in OPERATIONS
    }
    found = {(method, one.path): declared(one) for one in routes(APP.routes) for method in one.methods}
    assert {key: found[key] for key in documented} == documented
    assert [key for key, by in documented.items() if any(by.values())]


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_route_leaves_a_parameter_out_of_account(front: Front, method: str, path: str) -> None:
    at = path.replace("{month}", "2026-01").replace("{", "").replace("}", "")
    refusal = await front.refused(method, f"{at}?nonsense=1", {}, status=422, code="invalid_request")
    assert refusal["fields"].pop("nonsense") == "there is no such parameter"
    assert set(refusal["fields"].values()) <= {"is needed"}


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ("windows=hour", {"windows": "there is no such parameter; did you mean window"}),
        ("%C3%A4=1&=2", {"ä": "there is no such parameter", "''": "there is no such parameter"}),
        ("meter=a&meter=a", {"meter": "is given more than once"}),
        ("untl=x&window=day&window=hour", {"untl": "there is no such parameter; did you mean until",
                                           "window": "is given more than once"}),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_parameter_is_said(front: Front, asked: str, fields: dict[str, str]) -> None:
    refusal = await front.refused("GET", f"/v1/customers/cus/usage/windows?{asked}", status=422)
    assert {field: reason for field, reason in refusal["fields"].items() if reason != "is needed"} == fields
    assert set(refusal["fields"]) - set(fields) <= {"meter", "since", "until"}


async def test_parameters_that_there_are_not_and_values_that_do_not_fit_are_told_at_once(front: Front) -> None:
    path = "/v1/customers/cus/usage?since=soon&until=2026-02-01&sinc=x"
    refusal = await front.refused("GET", path, status=422, code="invalid_request")
    assert refusal["fields"] == {
        "sinc": "there is no such parameter; did you mean since",
        "since": "must be a day such as 2026-01-31",
    }
    refusal = await front.refused("GET", "/v1/entities/acme/closes/2026-13?nonsense=1", status=422)
    assert set(refusal["fields"]) == {"nonsense", "month"}


async def test_a_list_may_have_several_values(front: Front) -> None:
    at = "/v1/customers/cus/events?since=2026-01-01&until=2026-02-01"
    assert (await front.get(f"{at}&property=model=a&property=region=b"))["events"] == []


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/preview"])
async def test_events_are_not_taken_in_by_what_is_not_understood(front: Front, path: str) -> None:
    body = [event(subject="cus")]
    refusal = await front.refused("POST", f"{path}?whatevertime=true", body, status=422)
    assert refusal["fields"] == {"whatevertime": "there is no such parameter; did you mean whatever_time"}
    refusal = await front.refused("POST", f"{path}?whatever_time=true&whatever_time=false", body, status=422)
    assert refusal["fields"] == {"whatever_time": "is given more than once"}
    receipt = await front.post(f"{path}?whatever_time=true", body)
    assert receipt["accepted"] == 1


async def test_of_many_strange_parameters_some_are_named(front: Front) -> None:
    refusal = await front.refused("GET", "/v1/customers?" + "&".join(f"p{n}=" for n in range(5_000)), status=422)
    assert len(refusal["fields"]) == MOST_NAMED


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
async def test_probes_and_browsers_may_add_parameters(front: Front, path: str) -> None:
    assert (await front.api.get(f"{path}?from=elsewhere&from=here")).status_code == 200


async def test_gateways_may_add_parameters(front: Front) -> None:
    await front.refused("POST", "/webhooks/pretend?account=acct_1", {}, status=400, code="bad_signature")
