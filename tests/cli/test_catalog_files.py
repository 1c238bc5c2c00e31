"""Catalog files: every error by file and line, and round trips that lose nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from billing.catalog import Catalog, Meter, Offer, Override, Product
from billing.errors import Refused
from billing.late import Below, Hold, IgnoreBelow, NextInvoice
from billing.modifiers import Coupon, Discount
from billing.plan import Plan, PlanItem
from billing.pricing import Flat, PerUnit, Tier, Volume
from cli.catalog_files import SCHEMA, read, texts, write
from cli.catalog_shape import plan_schema
from cli.yaml_layout import write_yaml
from cli.yaml_tree import read_yaml
from tests.billing.strategies import FEATURES, METERS, PLANS, PRODUCTS, drawn, plans
from tests.cli.conftest import EXAMPLE

TRICKY = (
    "yes|null|~|1.0|1e3|12:30|0x1F|a: b|- c|# d|{e}|[f, g]|'h\"|i\\n|=j|!k|&l|*m|>n|@o|`p|%q|Größe 9 €|漢字|x #y"
).split("|")
ITEMS = "items:\n  - {key: a, name: A, price: {kind: flat, amount: 1}}\n"
PLAN = f"name: Team\ncurrency: EUR\n{ITEMS}"


def made(folder: Path, **files: str) -> Path:
    """`plans_team="..."` is plans/team.yaml."""
    for name, text in files.items():
        path = folder / f"{name.replace('_', '/', 1)}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def refused(folder: Path) -> list[str]:
    with pytest.raises(Refused) as caught:
        read(folder)
    return [f"{fault.field}: {fault.reason}" for fault in caught.value.faults]


# Each row: a plan's file, the place that is named, and a word of the reason.
WRONG = [
    ("name: Team\ncurrency: EUR\n", "1: items", "is needed"),
    (f"name: Team\n{PLAN}", "2: name", "a second time; the first is in line 1"),
    (f"{PLAN}colour: red\n", "5: colour", "no such field"),
    (f"{PLAN}version: 3\n", "5: version", "the catalog the version"),
    (f"{PLAN}plan_id: team\n", "5: plan_id", "the name says the id"),
    (f"{PLAN}sold_from: 2026-02-30\n", "5: sold_from", "must be a day"),
    (f"{PLAN}sold_from: 20260201\n", "5: sold_from", "such as 2026-03-01"),
    (f"{PLAN}sold_from: soon\n", "5: sold_from", "such as 2026-03-01"),
    (f"{PLAN}interval: {{unit: fortnight}}\n", "5: interval.unit", "must be day, week, month, quarter or year"),
    (f"{PLAN}interval: {{count: 1.5}}\n", "5: interval.count", "whole number"),
    (f"{PLAN}bounds: {{minimum: 1_000}}\n", "5: bounds.minimum", "'1_000' is none"),
    (f"{PLAN}bounds: {{minimum: '1,000'}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: .inf}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: nan}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: 0x1F}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: 1:30}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: 1e999}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: {{minimum: true}}\n", "5: bounds.minimum", "must be a number"),
    (f"{PLAN}bounds: &b {{minimum: 1}}\n", "5: bounds", "anchors are not read"),
    (f"{PLAN}bounds: !!map {{minimum: 1}}\n", "5: bounds", "tag"),
    (f"{PLAN}bounds: {{minimum: !!float 1}}\n", "5: bounds.minimum", "tag"),
    (f"{PLAN}bounds: {{<<: {{minimum: 1}}}}\n", "5: bounds.<<", "no such field"),
    (f"{PLAN}? [a, b]\n: c\n", "5", "a key must be a word"),
    (f'{PLAN}"": nothing\n', "5", "a key must be a word"),
    (f"{PLAN}---\nname: Another\n", "5", "one document"),
    (f"{PLAN}  product: [\n", "5", "is not YAML"),
    (f"{PLAN}product: a: b\n", "5", "is not YAML"),
    (f"{PLAN}\tproduct: a\n", "5", "is not YAML"),
    (f"{PLAN}product: '\u0007'\n", "5", "cannot stand in YAML"),
    (f"{PLAN}product: {'[' * 60}{']' * 60}\n", "5", "nested deeper"),
    ("- name: Team\n", "1", "must be fields"),
    ("Team\n", "1", "must be fields"),
    ("", "1: name", "is needed"),
    (PLAN.replace("kind: flat, amount: 1", "kind: per_unit\n, amount: 1"), "4: items.0.price.rate", "is needed"),
    (PLAN.replace("kind: flat", "kind: flatt"), "4: items.0.price.kind", "must be one of flat, one_time, per_unit"),
    (PLAN.replace("kind: flat, ", ""), "4: items.0.price.kind", "names the model"),
    (PLAN.replace("name: A", "basis: meter, meter: m, in_advance: true, name: A"), "4: items.0.in_advance", "usage is"),
    (PLAN.replace("name: A", "in_advance: yes, name: A"), "4: items.0.in_advance", "true or false"),
    (PLAN.replace("name: A", "in_advance: True, name: A"), "4: items.0.in_advance", "true or false"),
    (PLAN.replace("name: A", "name: [A]"), "4: items.0.name", "must be text"),
    (PLAN.replace("name: A", "name: null"), "4: items.0.name", "must be text"),
    (PLAN.replace("price: {kind: flat, amount: 1}", "price: 1"), "4: items.0.price", "must be fields"),
]


@pytest.mark.parametrize(("text", "place", "word"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_in_a_plan_is_named_with_its_line(tmp_path: Path, text: str, place: str, word: str) -> None:
    found = refused(made(tmp_path, plans_team=text))
    named = [fault for fault in found if fault.startswith(f"plans/team.yaml:{place}: ")]
    assert named and any(word in fault for fault in named), found


def test_only_the_model_that_is_named_is_asked(tmp_path: Path) -> None:
    tiers = "[{up_to: 5, rate: x}, {rate: 1, fee: 2}]"
    text = f"name: T\ncurrency: EUR\nitems:\n  - key: a\n    name: A\n    price: {{kind: volume, tiers: {tiers}}}\n"
    assert refused(made(tmp_path, plans_team=text)) == [
        "plans/team.yaml:6: items.0.price.tiers.0.rate: must be a number, such as 0.0000025; 'x' is none",
        "plans/team.yaml:6: items.0.price.tiers.1.fee: there is no such field",
    ]


def test_everything_is_said_at_once_over_all_files(tmp_path: Path) -> None:
    made(
        tmp_path,
        products="core: {name: Core, colour: red}\nno: yes\n",
        features="sso: {}\nx: {name: X, kind: toggle}\n",
        meters="tokens: {name: T, event_type: t, quantity_field: n, per_event: on}\n",
        coupons="C:\n  name: C\n  most: 1.5\n  discounts:\n    - {kind: percents, value: 1}\n    - {value: 2}\n",
        plans_team=f"{PLAN}bounds: {{least: 1}}\n",
        plans_pro="name: Pro\n",
        plans_bad="name: [\n",
        overrides_o="customer_id: c\nplan_id: team\ncurrency: EUR\neffective_from: 1\n",
        meter="tokens: {}\n",
    )
    (tmp_path / "plans/pro.toml").write_text("name = 'Pro'\n")
    (tmp_path / "plans/pro.yml").write_text("name: Pro\n")
    (tmp_path / "plans/a b.yaml").write_text(PLAN)
    (tmp_path / "plans/latin.yaml").write_bytes(b"name: \xe4\n")
    assert {fault.partition(": ")[0] + ": " + fault.split(": ")[1] for fault in refused(tmp_path)} >= {
        "products.yaml:1: core.colour",
        "products.yaml:2: no",
        "features.yaml:1: sso.name",
        "features.yaml:2: x.kind",
        "meters.yaml:1: tokens.per_event",
        "coupons.yaml:3: C.most",
        "coupons.yaml:5: C.discounts.0.kind",
        "coupons.yaml:6: C.discounts.1.kind",
        "plans/team.yaml:5: bounds.least",
        "plans/pro.toml: currency",
        "overrides/o.yaml:4: effective_from",
    }
    found = "\n".join(refused(tmp_path))
    assert "plans/bad.yaml:2: is not YAML" in found
    assert "bad.yaml:2: name" not in found and "bad.yaml:1" not in found
    assert "plans/pro.yaml: 'pro' stands in plans/pro.toml already" in found
    assert "plans/pro.yml: is not read" in found
    assert "plans/a b.yaml:1: 'a b' cannot be an id" in found
    assert "plans/latin.yaml:1: is not UTF-8, at byte 6" in found
    assert "meter.yaml: is no file of a catalog" in found


@pytest.mark.parametrize("name", ["Team", "a", "a:b", "-a", "a" * 65])
def test_ids_are_those_of_the_api_and_only_codes_of_coupons_may_have_capitals(tmp_path: Path, name: str) -> None:
    coupon = "{name: C, discounts: [{kind: percent, value: 1}]}"
    made(tmp_path, products=f'"{name}": {{name: P}}\n', coupons=f'"{name}": {coupon}\n', plans_team=PLAN)
    (tmp_path / f"plans/{name}.yaml").write_text(PLAN)
    said = f"{name!r} cannot be an id: it must be 2 to 64"
    letters = "letters, digits, '_', '.' or '-', beginning with a letter or digit"
    wanted = [f"plans/{name}.yaml:1: {said} small {letters}", f"products.yaml:1: {name}: {said} small {letters}"]
    wanted += [] if name == "Team" else [f"coupons.yaml:1: {name}: {said} {letters}"]
    assert sorted(refused(tmp_path)) == sorted(wanted)


def test_a_folder_without_a_catalog_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Nothing here.")
    assert "holds no catalog" in refused(tmp_path)[0]
    assert "holds no catalog" in refused(tmp_path / "missing")[0]


def test_numbers_and_words_stay_what_they_are(tmp_path: Path) -> None:
    made(
        tmp_path,
        products="no: {name: null island}\n007: {name: 'null', description: ~}\n1.10: {name: 1.10}\n",
        plans_team=(
            "name: on\ncurrency: EUR\nproduct: null\nitems:\n  - key: a\n    name: 1e3\n    in_advance: false\n"
            "    price:\n      kind: volume\n      tiers:\n        - {up_to: 1.10, rate: 0.0000025}\n"
            "        - {rate: 12345678901234567890.000000000000000000000000000001, flat_fee: 1e3}\n"
        ),
    )
    found = read(tmp_path)
    assert found.products == (Product("007", "null", "~"), Product("1.10", "1.10"), Product("no", "null island"))
    rate = Decimal("12345678901234567890.000000000000000000000000000001")
    tiers = (Tier(Decimal("1.10"), Decimal("0.0000025")), Tier(None, rate, Decimal(1000)))
    assert found.offers == (
        Offer(Plan("team", 1, "on", "EUR", (PlanItem("a", "1e3", Volume(tiers), in_advance=False),)), None),
    )
    assert str(tiers[0].up_to) == str(found.offers[0].plan.items[0].price.tiers[0].up_to)  # type: ignore[union-attr]


def test_plans_may_be_toml(tmp_path: Path) -> None:
    made(tmp_path, products="core: {name: Core}\n")
    (tmp_path / "plans").mkdir()
    path = tmp_path / "plans/team.toml"
    path.write_text(
        'name = "Team"\ncurrency = "EUR"\nsold_from = 2026-03-01\n[[items]]\nkey = "a"\nname = "A"\n'
        'price = { kind = "volume", tiers = [{ up_to = 10, rate = 0.0000025 }, { rate = "0.10" }] }\n'
    )
    price = Volume((Tier(Decimal(10), Decimal("0.0000025")), Tier(None, Decimal("0.10"))))
    plan = Plan("team", 1, "Team", "EUR", (PlanItem("a", "A", price),))
    assert read(tmp_path).offers == (Offer(plan, date(2026, 3, 1)),)
    path.write_text(path.read_text().replace("0.0000025", '"x"').replace("2026-03-01", "2026-03-01T10:00:00Z"))
    assert refused(tmp_path) == [
        "plans/team.toml: items.0.price.tiers.0.rate: must be a number, such as 0.0000025; 'x' is none",
        "plans/team.toml: sold_from: must be a day, such as 2026-03-01",
    ]
    path.write_text('name = "Team"\ncurrency = EUR\n')
    assert refused(tmp_path)[0] == "plans/team.toml:2: is not TOML: Invalid value"


def test_random_plans_come_back_as_they_were(tmp_path: Path) -> None:
    offers = tuple(
        Offer(plan.named(f"p{i:04d}", 1), date(2026, 1, 1 + i % 28) if i % 3 else None)
        for i, plan in enumerate(drawn(plans(), PLANS))
    )
    items = tuple(offer.plan.items[0] for offer in offers[:20])
    overrides = tuple(
        Override(f"o{i:02d}", "c", "p0001", "EUR", date(2026, 1, 1), (item,)) for i, item in enumerate(items)
    )
    coupons = (Coupon("C1", "1.0", (Discount("amount", Decimal("5.00"), 3),), "EUR", date(2026, 12, 31), 7),)
    catalog = Catalog(
        tuple(sorted(PRODUCTS, key=lambda one: one.product_id)),
        tuple(sorted(FEATURES, key=lambda one: one.feature_id)),
        tuple(sorted(METERS, key=lambda one: one.meter_id)),
        coupons,
        offers,
        overrides,
    )
    assert len(offers) == PLANS
    write(tmp_path, catalog)
    found = read(tmp_path)
    assert found == catalog
    assert texts(found) == {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.*")}


def test_what_is_written_is_the_same_text_to_any_reader_of_yaml() -> None:
    """Quotes stand wherever YAML 1.1 would read a word as something else; numbers are numbers."""
    words = [*TRICKY, "", " x", "x ", "null", "Yes", "OFF", "1_000", "0o7", "a: b", "a #b", "<<", "=", "\u2028", "\x85"]
    words += ["line\nbreak\ttab", "\U0001f642 ok", "'", '"', "\\", "{a}", "a, b", "é", "12:30:00", ".5", "+1", "-", "?"]
    for word in words:
        text = write_yaml({word or "x": word, "list": [word, {"a": word}]})
        assert yaml.safe_load(text) == {word or "x": word, "list": [word, {"a": word}]}, text
        assert read_yaml(text).value == {word or "x": word, "list": [word, {"a": word}]}
    numbers = {"a": Decimal("1.10"), "b": 3, "c": Decimal("-0.5"), "d": True, "e": None, "f": date(2026, 3, 1)}
    assert yaml.safe_load(write_yaml(dict(numbers))) == {**numbers, "a": 1.1, "c": -0.5}


def test_the_example_that_ships_is_as_it_would_be_written() -> None:
    catalog = read(EXAMPLE)
    written = {str(path.relative_to(EXAMPLE)): path.read_text() for path in EXAMPLE.rglob("*.yaml")}
    assert {file: text for file, text in texts(catalog).items() if file != SCHEMA} == written
    kinds = {item.price.kind for offer in catalog.offers for item in offer.plan.items}
    assert len(kinds) >= 12 and {offer.plan.kind for offer in catalog.offers} == {"plan", "add_on"}


def test_the_schema_has_every_field_and_takes_the_example() -> None:
    schema = plan_schema()
    for path in EXAMPLE.glob("plans/*.yaml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=../schema/plan.json\n")
        assert list(misfits_of(yaml.safe_load(path.read_text()), schema, schema)) == []
    good = yaml.safe_load(PLAN)
    for broken in (
        {**good, "colour": "red"},
        {**good, "sold_from": 3},
        {key: value for key, value in good.items() if key != "items"},
        {**good, "items": [{**good["items"][0], "price": {"kind": "flatt", "amount": 1}}]},
        {**good, "items": [{**good["items"][0], "price": {"amount": 1}}]},
        {**good, "interval": {"unit": "fortnight"}},
        {**good, "bounds": {"minimum": "much"}},
    ):
        assert list(misfits_of(json.loads(json.dumps(broken)), schema, schema)), broken


def misfits_of(value: Any, of: dict[str, Any], whole: dict[str, Any]) -> list[str]:
    """What the part of JSON Schema that ours uses says about a value."""
    if "$ref" in of:
        return misfits_of(value, whole["$defs"][of["$ref"].rpartition("/")[2]], whole)
    if options := of.get("anyOf"):
        each = [misfits_of(value, option, whole) for option in options]
        return [] if any(not found for found in each) else [f"{value!r} fits none"]
    if "const" in of or "enum" in of:
        return [] if value in of.get("enum", [of.get("const")]) else [f"{value!r} is not one of them"]
    match of.get("type"):
        case "object" if isinstance(value, dict):
            fields = of["properties"]
            found = [f"no {name}" for name in of.get("required", ()) if name not in value]
            found += [f"strange {name}" for name in value if name not in fields and of["additionalProperties"] is False]
            return found + [one for k, v in value.items() if k in fields for one in misfits_of(v, fields[k], whole)]
        case "array" if isinstance(value, list):
            return [one for part in value for one in misfits_of(part, of["items"], whole)]
    plain: dict[str, tuple[type, ...]] = {
        "string": (str, date),
        "number": (int, float),
        "integer": (int,),
        "boolean": (bool,),
        "null": (type(None),),
    }
    is_odd = isinstance(value, bool) and of["type"] != "boolean"
    return [] if isinstance(value, plain.get(of["type"], ())) and not is_odd else [f"{value!r} is no {of['type']}"]


def test_ids_that_no_file_can_have_are_not_written(tmp_path: Path) -> None:
    plan = Plan("../out", 1, "Out", "EUR", (PlanItem("a", "A", Flat(Decimal(1))),))
    with pytest.raises(Refused, match="cannot be the name of a file"):
        write(tmp_path / "in", Catalog(offers=(Offer(plan, None),)))
    assert not (tmp_path / "out.yaml").exists()


def test_writing_leaves_out_versions_and_defaults(tmp_path: Path) -> None:
    plan = Plan("team", 7, "Team", "EUR", (PlanItem("a", "A", PerUnit(Decimal("1E-7")), "seats"),))
    meters = (
        Meter("gb", "G", "t", "n", aggregation="weighted_sum", time_unit="hour"),
        Meter("mix", "X", "t", expression="input + 4 * output"),
        Meter("mm", "M", "t", "n"),
        Meter("p99", "P", "t", "n", aggregation="percentile", percent=Decimal("99.5")),
        Meter("peak", "R", "t", "n", aggregation="peak_rate", rate_window="minute"),
        Meter("seats", "S", "t", "n", aggregation="unique", operation_field="what", carries_over=True),
    )
    catalog = Catalog(meters=meters, offers=(Offer(plan, None),))
    assert texts(catalog)["plans/team.yaml"].splitlines()[1:] == [
        "name: Team",
        "currency: EUR",
        "items:",
        "  - key: a",
        "    name: A",
        "    basis: seats",
        "    price: {kind: per_unit, rate: 0.0000001}",
    ]
    write(tmp_path, catalog)
    assert read(tmp_path) == replace(catalog, offers=(Offer(plan.named("team", 1), None),))


def test_what_is_there_but_cannot_be_read_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "products.yaml").symlink_to(tmp_path / "gone")
    (tmp_path / "meters.yaml").mkdir()
    (tmp_path / "overrides").write_text("")
    (tmp_path / "plans").symlink_to(tmp_path / "gone")
    with pytest.raises(Refused) as refusal:
        read(tmp_path)
    assert {fault.field: fault.reason for fault in refusal.value.faults} == {
        "products.yaml:1": "cannot be read: No such file or directory",
        "meters.yaml:1": "cannot be read: Is a directory",
        "overrides": "must be a folder",
        "plans": "must be a folder",
    }


def test_a_number_of_absurd_size_in_toml_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "team.toml").write_text('interval = {unit = "month", count = 1e999999999}\n')
    with pytest.raises(Refused) as refusal:
        read(tmp_path)
    [fault] = [fault for fault in refusal.value.faults if "digits" in fault.reason]
    assert fault.reason == "is not TOML: the number 1e999999999 has more than 1,000 digits"


def test_what_becomes_of_late_usage_is_read_and_written(tmp_path: Path) -> None:
    start = "name: T, event_type: t, quantity_field: n, late:"
    small = "{kind: ignore_below, amounts: [{currency: EUR, amount: 5.50}]}"
    given = {"m1": "{kind: hold}", "m2": small, "m3": "{kind: next_invoice}"}
    made(tmp_path, meters="".join(f"{name}: {{{start} {late}}}\n" for name, late in given.items()))
    found = read(tmp_path)
    five = IgnoreBelow((Below("EUR", Decimal("5.50")),))
    assert [meter.late for meter in found.meters] == [Hold(), five, NextInvoice()]
    written = texts(found)["meters.yaml"]
    assert "late: {kind: hold}" in written and "next_invoice" not in written
    made(tmp_path, meters=written)
    assert read(tmp_path) == found
    wrong = {"{kind: forget}": "late.kind", "{amounts: []}": "late.kind", "{kind: ignore_below}": "late.amounts"}
    for late, place in wrong.items():
        made(tmp_path, meters=f"m1: {{{start} {late}}}\n")
        assert any(fault.startswith(f"meters.yaml:1: m1.{place}") for fault in refused(tmp_path)), refused(tmp_path)
