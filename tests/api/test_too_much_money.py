"""Questions about usage and prices that come to more than an amount may be are refused by item, quantity and limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Front
from tests.api.test_event_previews import tried
from tests.api.test_events import event, send

pytestmark = pytest.mark.anyio

SAID = "1,000,000,000,000,000,000 of the item 'tokens' of team version 1, 2026-01-01 to 2026-01-31: that comes to"


def too_much(customer: str) -> dict[str, Any]:
    return event(subject=customer, data={"n": 10**18})


async def test_live_usage_and_the_upcoming_invoice(front: Front) -> None:
    customer = await front.customer()
    sub = await front.subscription(customer)
    await front.advance("clk", datetime(2026, 1, 6, 12, tzinfo=UTC))
    await send(front, [too_much(customer)])
    for question in ("usage", "upcoming-invoice"):
        said = await front.refused("GET", f"/v1/subscriptions/{sub}/{question}", status=422, code="amount_too_large")
        assert SAID in said["detail"] and said["detail"].endswith("no amount may be beyond 10,000,000,000,000.00 EUR.")
        assert "POST /v1/events/corrections" in said["remedy"]


async def test_events_that_are_tried(front: Front) -> None:
    """The days are told all the same; why there is no money stands beside them."""
    customer, other = await front.customer(), await front.customer()
    await front.subscription(customer)
    await front.subscription(other)
    await front.advance("clk", datetime(2026, 1, 6, 13, tzinfo=UTC))
    said = (await tried(front, [too_much(customer), event(subject=other)])).json()
    for one in said["customers"]:
        assert len(one["days"]) == 1
        if one["customer_id"] == customer:
            assert one["money"] == [] and any(SAID in why for why in one["refused"])
        else:
            assert one["money"] and one["refused"] == []


async def test_prices_that_are_tried(front: Front) -> None:
    body = {"price": {"kind": "per_unit", "rate": "1000000"}, "quantity": "1E+15", "currency": "EUR"}
    said = await front.refused("POST", "/v1/prices/preview", body, status=422, code="amount_too_large")
    assert said["detail"].startswith("1,000,000,000,000,000 of the item 'price'")
    assert said["remedy"]
