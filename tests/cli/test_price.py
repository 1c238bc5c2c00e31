"""`perennial price`: prices, items and plans from text, files and the live catalog, explained; and what is no price."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cli.catalog_files import read
from models import catalog
from models.database import transaction
from tests.cli.conftest import EXAMPLE, Perennial

METERS = ("images", "llm_tokens", "stored_bytes")
PRICE = '{"kind": "graduated", "tiers": [{"up_to": 1000, "rate": 0.01}, {"up_to": null, "rate": 0.005}]}'


def test_a_price_in_braces(perennial: Perennial) -> None:
    code, said = perennial("price", PRICE, "--quantity", "1000.5")
    assert code == 0
    assert "0.5 at 0.005 EUR = 0.0025." in said and "10.00 EUR, before tax" in said


def test_digits_stay_as_they_are_written(perennial: Perennial) -> None:
    rate = '{"kind": "per_unit", "rate": 0.000000000000000000000000000001}'
    assert "1.00 EUR, before tax" in perennial("price", rate, "--quantity", "1" + "0" * 30)[1]
    assert "2,500,000 JPY" in perennial("price", '{"kind": "flat", "amount": 2500000}', "--currency", "JPY")[1]
    each = "quantity=1" + "0" * 9 + ".00000000000000000001x3"
    said = "3,000,000,000.00000000000000000003 in 3 events"
    assert said in perennial("price", '{"kind": "dynamic"}', "--use", each)[1]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("price.toml", b'kind = "flat', "is not TOML"),
        ("price.yaml", b"\xff\xfe", "is not UTF-8"),
        ("price.json", b'{"kind": ', "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_read(
    perennial: Perennial, tmp_path: Path, file: str, content: bytes, reason: str
) -> None:
    path = tmp_path / file
    path.write_bytes(content)
    code, said = perennial("price", str(path))
    assert code == 2
    assert reason in said


def test_a_plan_of_a_folder_with_events(perennial: Perennial, tmp_path: Path) -> None:
    """Its meters are those beside it; no database is asked."""
    meters = {meter.meter_id: meter for meter in read(EXAMPLE).meters}
    tokens = meters["llm_tokens"]
    data = {tokens.quantity_field: 3_000_000, **dict.fromkeys(tokens.dimensions, "any")}
    events = tmp_path / "events.ndjson"
    events.write_text("\n".join(json.dumps({"type": tokens.event_type, "data": data}) for _ in range(2)) + "\n")
    _, said = perennial("price", str(EXAMPLE / "plans/starter.yaml"), "--events", str(events))
    assert "6,000,000 tokens in 2 events" in said
    assert "Packages of 1,000,000: 5 at 3 EUR = 15." in said
    assert "34.00 EUR, before tax" in said
    _, in_dollars = perennial(
        "price", str(EXAMPLE / "plans/starter.yaml"), "--use", "llm_tokens=6000000", "--currency", "USD"
    )
    assert "37.00 USD, before tax" in in_dollars


GIGABYTE_HOURS = """
storage:
  name: Storage
  event_type: disk
  quantity_field: gigabytes
  unit: GB-hours
  aggregation: weighted_sum
  time_unit: hour
"""
STORAGE = """
name: Storage
currency: EUR
items:
  - {key: storage, name: Storage, basis: meter, meter: storage, price: {kind: per_unit, rate: 0.01}}
"""


def test_a_level_is_weighted_by_the_times_of_events(perennial: Perennial, tmp_path: Path) -> None:
    """Ten gigabytes from 16 January on. Without a time in each of them it is refused, and said which meter asks."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "meters.yaml").write_text(GIGABYTE_HOURS)
    plan, events = tmp_path / "plans/storage.yaml", tmp_path / "events.ndjson"
    plan.write_text(STORAGE)
    came = {"type": "disk", "data": {"gigabytes": 10}, "time": "2026-01-16T01:00:00+01:00"}
    events.write_text(json.dumps(came) + "\n")
    code, said = perennial("price", plan, "--events", events, "--starts-on", "2026-01-01")
    assert code == 0, said
    assert "changed by 10 in 1 event, 10 at the end; times the hours that it stood" in said
    assert "2026-01-01" in said and "38.40 EUR, before tax" in said, "16 days of 24 hours"
    assert "74.40 EUR, before tax" in perennial("price", plan, "--events", events, "--starts-on", "2027-01-01")[1]
    events.write_text(json.dumps(came) + "\n" + json.dumps({"type": "disk", "data": {"gigabytes": 1}}) + "\n")
    code, said = perennial("price", plan, "--events", events, "--starts-on", "2026-01-01")
    assert (code, "events: have no times, without which 'storage' cannot count" in said) == (2, True)
    for time, why in (
        ("2026-01-16T01:00:00", "time must be a moment with its zone"),
        ("yesterday", "time must be a moment with its zone"),
        ("2300-01-01T00:00:00Z", "time must lie in the years 1970 to 2199"),
    ):
        events.write_text(json.dumps(came | {"time": time}) + "\n")
        code, said = perennial("price", plan, "--events", events)
        assert (code, f"events.ndjson:1: {why}" in said) == (2, True), said
    code, said = perennial("price", plan, "--starts-on", "0001-01-01")
    assert (code, "--starts-on: must lie in the years 1970 to 2199" in said) == (2, True), said


def test_single_events_and_properties(perennial: Perennial) -> None:
    percentage = '{"kind": "percentage", "percent": 1, "minimum_per_transaction": 0.50}'
    _, said = perennial("price", percentage, "--use", "quantity=1x10", "--use", "quantity=900x1")
    assert "14.00 EUR, before tax" in said
    matrix = '{"kind": "matrix", "by": ["region"], "cells": [{"values": ["eu"], "rate": 2}], "default": 1}'
    _, said = perennial("price", matrix, "--use", "quantity[region=eu]=3", "--use", "quantity=4")
    assert "10.00 EUR, before tax" in said


def test_what_is_priced_without_a_quantity_says_so(perennial: Perennial) -> None:
    """An amount of zero would look like the price."""
    assert "No quantity was given, so it is priced as 0" in perennial("price", PRICE)[1]
    assert "No quantity" not in perennial("price", PRICE, "--quantity", "0")[1]
    assert "No quantity" not in perennial("price", '{"kind": "flat", "amount": 5}')[1]
    plan = EXAMPLE / "plans/team.yaml"
    said = "Priced without any usage of images, stored_bytes: add, for example, --use images=1000."
    assert said in perennial("price", plan, "--use", "llm_tokens=5")[1]
    assert "without any usage" not in perennial("price", plan, *(f"--use={m}=1" for m in METERS))[1]


def test_a_discount_of_the_price_itself_is_shown(perennial: Perennial) -> None:
    _, said = perennial("price", EXAMPLE / "plans/team.yaml", "--discount", "10")
    assert re.search(r"Set-up +1 +200\.00 +20% in gross, 20\.00 +180\.00", said)
    assert re.search(r"Base fee +1 +99\.00 +9\.90 +89\.10", said)
    assert "Launch price (20%): minus 50, makes 200." in said


def test_a_plan_of_the_live_catalog(perennial: Perennial, engine: Engine) -> None:
    with transaction(engine) as session:
        catalog.apply(session, read(EXAMPLE), datetime.now(UTC))
    assert "19.00 EUR, before tax" in perennial("price", "starter", "--period", "3")[1]
    assert perennial("price", "starter", "--version", "7")[1].startswith("Refused: There is no plan")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (['{"kind": "per_unit", "rat": 1}'], "rat: there is no such field; did you mean rate"),
        (['{"kind": "per_unit", "rate": 1e4000}'], "rate: must be a number"),
        (['{"kind": "per_unit"'], "line"),
        (["{}"], "kind"),
        ([PRICE, "--quantity", "many"], "quantity: must be a number"),
        ([PRICE, "--quantity", "1e99"], "quantity: must be below"),
        ([PRICE, "--use", "tokens"], "says no usage"),
        ([PRICE, "--use", "tokens=5"], "usage.tokens: no item is priced by it"),
        ([PRICE, "--events", "not-there.ndjson"], "There is no file"),
        ([PRICE, "--currency", "ZZZ"], "currency: "),
        (['{"kind": "formula", "expression": "1 / quantity"}'], "expression: cannot price a usage of 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_price_is_refused(perennial: Perennial, words: list[str], complaint: str) -> None:
    code, said = perennial("price", *words)
    assert (code, complaint in said) == (2, True), said
    assert complaint not in said.splitlines()[-1], "what to do comes last"


@pytest.mark.parametrize("line", ["nothing", "{}", '{"type": "llm", "data": 5}'])
def test_an_event_that_cannot_be_read_is_named_with_what_one_looks_like(
    perennial: Perennial, tmp_path: Path, line: str
) -> None:
    (tmp_path / "events.ndjson").write_text(f"\n{line}\n")
    code, said = perennial("price", PRICE, "--events", tmp_path / "events.ndjson")
    assert code == 2 and "events.ndjson:2: " in said
    assert said.splitlines()[-1].startswith("One JSON object a line, such as")
