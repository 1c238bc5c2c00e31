"""One customer's month in one process: signed through the API, billed, paid and closed on a test clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def test_a_month_from_the_agreement_to_the_locked_books(house: Any) -> None:
    await house.cast("2025-12-30T09:00:00Z", date(2026, 1, 1))
    agreement = {"id": "sub", "customer": "cus", "entity": "acme", "plan": "team", "starts_on": "2026-01-01"}
    await house.post("/v1/subscriptions", agreement)

    await house.advance("clk", datetime(2026, 1, 10, tzinfo=UTC))
    event = {
        "source": "s",
        "id": "1",
        "subject": "cus",
        "type": "llm",
        "time": "2026-01-05T00:00:00Z",
        "data": {"n": 700},
    }
    assert (await house.post("/v1/events", {"events": [event]}))["accepted"] == 1
    await house.advance("clk", datetime(2026, 2, 6, tzinfo=UTC))

    first, second = await house.get("/v1/invoices")
    assert (first["net_minor"], first["total_minor"], first["open_minor"]) == (10_000, 11_900, 0)
    assert (second["net_minor"], second["total_minor"], second["open_minor"]) == (10_700, 12_733, 0)
    assert len(house.gateway.charges) == 2

    close = await house.get("/v1/entities/acme/closes/2026-01")
    assert close["close"]["stage"] == "awaiting approval"
    assert close["all_hold"], close["tie_outs"]
    assert all(one["holds"] and Decimal(one["difference"]) == 0 for one in close["tie_outs"])
    await house.post("/v1/entities/acme/closes/2026-01/approve", {"by": "Carla"})
    await house.advance("clk", datetime(2026, 2, 7, tzinfo=UTC))
    balance = {
        row["account"]: row["balance"] for row in await house.get("/v1/entities/acme/ledger/2026-01/trial-balance")
    }
    assert balance["4000"] == "-100.00"
    assert balance["4010"] == "-7.00"
    assert list(house.erp.journals) == ["acme-2026-01"]
