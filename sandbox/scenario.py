"""What the demo's month is made of: who sells what to whom, at which prices, and the usage behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sandbox.trace import Source, generated, read

METERS = [
    {
        "id": "input_tokens",
        "name": "Input tokens",
        "event_type": "llm.request",
        "quantity_field": "input_tokens",
        "unit": "tokens",
    },
    {
        "id": "output_tokens",
        "name": "Output tokens",
        "event_type": "llm.request",
        "quantity_field": "output_tokens",
        "unit": "tokens",
    },
]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A month's cast. `month` is its first day; `others` are further customers signed through the API."""

    month: date
    entity: dict[str, Any]
    plans: dict[str, dict[str, Any]]
    deal: dict[str, Any]
    upgrade: dict[str, Any]
    alias: str
    sources: Sequence[Source]
    others: Sequence[dict[str, Any]] = ()
    meters: Sequence[dict[str, str]] = tuple(METERS)

    @property
    def next_month(self) -> date:
        return (self.month + timedelta(days=32)).replace(day=1)

    def day(self, number: int) -> date:
        return self.month.replace(day=number)


def _plan(name: str, currency: str, base: str, seat: str, tokens: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A platform fee and seats in advance, tokens in arrears."""
    fixed = {"key": "platform", "name": "Platform fee", "price": {"kind": "flat", "amount": base}}
    seats = {
        "key": "seats",
        "name": "Seats",
        "basis": "seats",
        "unit": "seats",
        "price": {"kind": "per_unit", "rate": seat},
    }
    metered = [
        {"key": key, "name": label, "basis": "meter", "meter": key, "unit": "tokens", "price": price}
        for (key, label), price in zip(
            (("input_tokens", "Input tokens"), ("output_tokens", "Output tokens")), tokens, strict=True
        )
    ]
    return {"name": name, "currency": currency, "items": [fixed, seats, *metered]}


def built_in() -> Scenario:
    """January 2026 in euro: graduated tiers, a discount, a prepaid credit, German VAT, and a generated trace."""
    tiers = {
        "kind": "graduated",
        "tiers": [
            {"up_to": "2000000", "rate": "0.000003"},
            {"up_to": "8000000", "rate": "0.0000025"},
            {"up_to": None, "rate": "0.000002"},
        ],
    }
    tokens: list[dict[str, Any]] = [tiers, {"kind": "per_unit", "rate": "0.00001"}]
    month = date(2026, 1, 1)
    return Scenario(
        month=month,
        entity={
            "id": "nordlicht",
            "name": "Nordlicht Software GmbH",
            "country": "DE",
            "functional_currency": "EUR",
            "time_zone": "Europe/Berlin",
            "address": "Speicherstraße 12, 20457 Hamburg",
            "email": "billing@nordlicht.example",
            "vat_id": "DE136695976",
            "invoice_prefix": "NL-2026-",
        },
        plans={
            "team": _plan("Team", "EUR", "499.00", "20.00", tokens),
            "business": _plan("Business", "EUR", "999.00", "18.00", tokens),
        },
        deal={
            "account_name": "Helios Robotics GmbH",
            "email": "accounts@helios.example",
            "country": "DE",
            "time_zone": "Europe/Berlin",
            "street": "Lindenallee 4",
            "postal_code": "10117",
            "city": "Berlin",
            "entity": "nordlicht",
            "plan": "team",
            "seats": 10,
            "starts_on": month,
            "currency": "EUR",
            "discount_percent": Decimal(10),
            "prepaid_credit": Decimal("50.00"),
            "purchase_order": "PO-4711",
        },
        upgrade={"plan": "business", "seats": 25},
        alias="helios",
        sources=[Source("gateway", "helios", generated(month, 8_000))],
    )


def from_traces(paths: Sequence[Path]) -> Scenario:
    """The month of the first trace in US dollars: each file is one customer's usage, at 2.50 and 10.00 per million.

    Raises ValueError if a file cannot be read or the traces are of different months.
    """
    traces = [read(path) for path in paths]
    month = traces[0][0].at.date().replace(day=1)
    for path, trace in zip(paths, traces, strict=True):
        if any(request.at.date().replace(day=1) != month for request in trace):
            raise ValueError(f"{path} has requests outside of {month:%B %Y}; one month at a time can be lived")
    tokens = [{"kind": "per_unit", "rate": "0.0000025"}, {"kind": "per_unit", "rate": "0.00001"}]
    names = [path.stem for path in paths]
    usage_only = {"name": "Usage only", "currency": "USD", "items": _plan("", "USD", "0", "0", tokens)["items"][2:]}
    return Scenario(
        month=month,
        entity={
            "id": "northlight",
            "name": "Northlight Software Inc.",
            "country": "US",
            "functional_currency": "USD",
            "time_zone": "UTC",
            "address": "200 Harbor Drive, Portland, OR 97201",
            "email": "billing@northlight.example",
            "invoice_prefix": "NL-",
        },
        plans={
            "team": _plan("Team", "USD", "499.00", "20.00", tokens),
            "business": _plan("Business", "USD", "999.00", "18.00", tokens),
            "usage": usage_only,
        },
        deal={
            "account_name": f"Customer of {names[0]}",
            "email": "accounts@one.example",
            "country": "US",
            "time_zone": "UTC",
            "street": "1 Main Street",
            "postal_code": "94105",
            "city": "San Francisco",
            "entity": "northlight",
            "plan": "team",
            "seats": 10,
            "starts_on": month,
            "currency": "USD",
            "prepaid_credit": Decimal("50.00"),
        },
        upgrade={"plan": "business", "seats": 25},
        alias=names[0],
        sources=[Source(name, name, trace) for name, trace in zip(names, traces, strict=True)],
        others=[_other(no, name, month) for no, name in enumerate(names[1:], 2)],
    )


def _other(no: int, name: str, month: date) -> dict[str, Any]:
    """A further customer of the trace `name`, signed through the API, who pays for usage only."""
    return {
        "customer": {
            "id": f"customer-{no}",
            "name": f"Customer of {name}",
            "email": f"accounts@{no}.example",
            "country": "US",
            "address": "2 Main Street, Denver, CO 80014",
            "aliases": [name],
        },
        "subscription": {
            "id": f"subscription-{no}",
            "customer": f"customer-{no}",
            "entity": "northlight",
            "plan": "usage",
            "starts_on": month.isoformat(),
        },
    }
