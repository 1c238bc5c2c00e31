"""Try a price out: what a price, an item or a plan costs for given quantities or events, each line explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from billing import preview
from billing.catalog import Meter
from billing.errors import Fault, Refused
from billing.explain import within
from billing.line import Line
from billing.plan import Plan
from billing.portion import Portion
from billing.preview import ALONE, Quote, Trial, TriedEvent
from billing.quantity import product
from billing.usage import Totals
from cli.catalog_files import read, tree_of
from cli.catalog_shape import catalog_of, faults_of
from cli.terminal import console, one_transaction
from cli.yaml_tree import read_yaml
from models import catalog, reasons

_USE = re.compile(r"(?P<meter>[^=\[\]]+)(\[(?P<properties>[^\]]*)\])?=(?P<quantity>[^x]+)(x(?P<events>\d+))?")
_IN_PLAN = ("offers.0.plan.items.0.price.", "offers.0.plan.items.0.", "offers.0.plan.")

What = Annotated[str, typer.Argument(help="A file (YAML, JSON, TOML), the same inline in braces, or a plan's id.")]
Used = Annotated[
    list[str] | None,
    typer.Option("--use", help="METER=QUANTITY, METER[region=eu]=QUANTITY, or METER=EACHx50 for 50 events."),
]

_EVENTS = "Events with type, data and, where a meter weighs by time, time; one JSON object a line."
_STARTS_ON = "The first day of the period; today if left out."


def price(
    what: What,
    quantity: Annotated[str | None, typer.Option(help="Of the only meter there is.")] = None,
    use: Used = None,
    events: Annotated[Path | None, typer.Option(help=_EVENTS)] = None,
    currency: Annotated[str | None, typer.Option(help="One of the plan's; EUR for a price alone.")] = None,
    seats: Annotated[int, typer.Option(min=0)] = 1,
    discount: Annotated[str, typer.Option(help="Percent on every line, as terms would have it.")] = "0",
    period: Annotated[int, typer.Option(min=0, help="Which period of the subscription, from 0.")] = 0,
    starts_on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help=_STARTS_ON)] = None,
    version: Annotated[int | None, typer.Option(help="Of a plan of the live catalog; else its newest.")] = None,
) -> None:
    """Price one whole period of a price, an item or a plan. Nothing is stored.

    A price or item alone is counted by its quantity. A plan's id is looked up in the live catalog; a plan in a file
    needs no database, unless events are to be counted by the live catalog's meters.
    """
    plan = _plan(what, currency, version)
    found: dict[str, list[Portion]] = {}
    if quantity is not None:
        found[_only_meter(plan)] = [Portion(_number("quantity", quantity))]
    for said in use or ():
        meter, portion = _used(said)
        found.setdefault(meter, []).append(portion)
    dated: Totals = {}
    if events is not None:
        counted, dated = preview.count(plan, _meters(what), list(_events(events)))
        for meter, portions in counted.items():
            found.setdefault(meter, []).extend(portions)
    usage = {meter: tuple(portions) for meter, portions in found.items()}
    trial = Trial(plan, usage, Decimal(seats), _number("discount", discount), number=period, dated=dated)
    preview.check_trial(trial)
    _show(preview.quote(trial, _first_day(starts_on)))
    _say_unused(plan, {*usage, *(meter for meter, _ in dated)})


def _first_day(said: datetime | None) -> date:
    day = (said or datetime.now(UTC)).date()
    if day.year not in reasons.YEARS:
        fault = Fault("--starts-on", reasons.OUT_OF_YEARS)
        raise Refused("The period cannot be priced.", faults=[fault], remedy="Say another day.")
    return day


def _plan(what: str, currency: str | None, version: int | None) -> Plan:
    """The one thing that is tried, as a plan in its currency."""
    raw = _raw(what)
    if raw is None:
        with one_transaction() as session:
            plan = catalog.plan(session, what, version)
    elif "items" in raw:
        plan = _typed({name: value for name, value in raw.items() if name != "sold_from"}, 2)
    elif "price" in raw:
        plan = _typed({"name": "Preview", "currency": currency or "EUR", "items": [raw]}, 1)
    else:
        item = {"key": "price", "name": "Price", "basis": "meter", "meter": ALONE, "price": raw}
        only = _typed({"name": "Preview", "currency": currency or "EUR", "items": [item]}, 0)
        plan = preview.alone(only.items[0].price, only.currency)
    priced = plan.priced_in(currency or plan.currency)
    if priced is None:
        reason = f"the plan has prices in {', '.join(plan.currencies)}"
        raise Refused(
            "The price cannot be tried as asked.",
            faults=[Fault("currency", reason)],
            remedy="Name one of these with --currency.",
        )
    return priced


def _raw(what: str) -> Mapping[str, Any] | None:
    """What a file or the text itself says, numbers as the text they are; None if it is neither."""
    inline = what.lstrip().startswith("{")
    if not inline and not Path(what).is_file():
        return None
    tree = read_yaml(what) if inline else tree_of(Path(what))
    if tree.wrong or not isinstance(tree.value, Mapping):
        faults = [Fault(f"line {wrong.line}", wrong.reason) for wrong in tree.wrong]
        raise Refused(
            "This is neither a price nor an item nor a plan.",
            faults=faults or [Fault("line 1", "must be fields with their values")],
            remedy='Such as {"kind": "per_unit", "rate": 0.0000025}; docs/PRICING.md names the models.',
        )
    return tree.value


def _typed(content: Mapping[str, Any], depth: int) -> Plan:
    """The plan that the content says; faults are named by their path in what was written."""
    try:
        found = catalog_of({"offers": [{"plan": {**content, "plan_id": "preview", "version": 1}}]})
    except Refused as refusal:
        faults = [Fault(fault.field.removeprefix(_IN_PLAN[depth]), fault.reason) for fault in faults_of(refusal)]
        remedy = "Mend the named fields; docs/PRICING.md shows every model."
        raise Refused(
            "What is to be tried cannot be read.", code="invalid_plan", faults=faults, remedy=remedy
        ) from refusal
    return found.offers[0].plan


def _only_meter(plan: Plan) -> str:
    meters = {item.meter for item in plan.items if item.meter}
    if len(meters) != 1:
        said = f"say with --use of which meter it is; the plan has {', '.join(sorted(meters)) or 'none'}"
        remedy = "Such as --use tokens=1200000."
        raise Refused("The price cannot be tried as asked.", faults=[Fault("quantity", said)], remedy=remedy)
    return str(meters.pop())


def _used(said: str) -> tuple[str, Portion]:
    match = _USE.fullmatch(said)
    if match is None:
        raise Refused(
            f"{said!r} says no usage.", remedy="Such as tokens=1200000, tokens[region=eu]=5 or payments=9.99x50."
        )
    pairs = [pair.partition("=") for pair in (match["properties"] or "").split(",") if pair]
    properties = tuple(sorted((name.strip(), value.strip()) for name, _, value in pairs))
    quantity = _number(said, match["quantity"])
    if match["events"] is None:
        return match["meter"], Portion(quantity, properties=properties)
    many = int(match["events"])
    return match["meter"], Portion(product(quantity, Decimal(many)), many, properties, each=quantity)


def _number(field: str, text: str) -> Decimal:
    try:
        value = Decimal(text.replace("_", "").replace(",", ""))
    except InvalidOperation as error:
        faults = [Fault(field, "must be a number")]
        raise Refused(f"{text!r} is no number.", faults=faults, remedy="Such as 1200000 or 0.25.") from error
    if not value.is_finite() or value.adjusted() > 30 or int(value.as_tuple().exponent) < -30:
        faults = [Fault(field, "must be below 10^30, with 30 decimals")]
        raise Refused(f"{text!r} has no sane size.", faults=faults, remedy="Try a number of a usual size.")
    return value


def _meters(what: str) -> tuple[Meter, ...]:
    """Those of the folder of files that the plan lies in; else the live catalog's."""
    folder = Path(what).resolve().parents[1] if Path(what).is_file() else None
    if folder is not None and (folder / "meters.yaml").is_file():
        return read(folder).meters
    with one_transaction() as session:
        return catalog.live_meters(session)


def _events(path: Path) -> Iterator[TriedEvent]:
    """Type, data and, if it has one, time of each line of a file."""
    if not path.is_file():
        raise Refused(f"There is no file {path}.", remedy="One JSON object a line, with type and data.")
    with path.open(encoding="utf-8") as lines:
        for no, line in enumerate(lines, 1):
            if line.strip():
                yield _event(line, f"{path}:{no}")


def _event(line: str, where: str) -> TriedEvent:
    try:
        event = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise _unreadable(where, f"is no JSON: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str) or not isinstance(event.get("data"), dict):
        raise _unreadable(where, "must have a type, and data as an object")
    return TriedEvent(event["type"], event["data"], _time(event.get("time"), where))


def _time(said: object, where: str) -> datetime | None:
    if said is None:
        return None
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise _unreadable(where, f"time {reasons.MOMENT}")
    if at.year not in reasons.YEARS:
        raise _unreadable(where, f"time {reasons.OUT_OF_YEARS}")
    return at


def _unreadable(where: str, why: str) -> Refused:
    remedy = 'One JSON object a line, such as {"type": "llm", "data": {"tokens": 1200}}.'
    return Refused("An event cannot be read.", faults=[Fault(where, why)], remedy=remedy)


def _show(found: Quote) -> None:
    """The lines as an invoice would have them, then where each comes from."""
    table = Table("Item", "Quantity", "Gross", "Discount", "Net", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for tried in found.lines:
        line = tried.line
        quantity = f"{line.because.quantity:,f} {line.because.unit}".rstrip()
        table.add_row(
            escape(line.description), quantity, f"{line.gross.major:,f}", _discount(line), f"{line.net.major:,f}"
        )
    console.print(table)
    for tried in found.lines:
        console.print(f"\n[bold]{escape(tried.line.description)}[/]: {tried.line.net}", soft_wrap=True)
        for said in _words(tried.because):
            console.print(f"  {escape(said)}", soft_wrap=True)
    console.print(f"\n[bold]{found.period}: {found.net}[/], before tax and credits.", soft_wrap=True)


def _discount(line: Line) -> str:
    """What is taken off the line; the discounts of its price are in the gross already, and so only named."""
    own = f"{', '.join(within(line.because))} in gross" if within(line.because) else ""
    return ", ".join(filter(None, (own, f"{line.discount.major:,f}" if line.discount else "")))


def _say_unused(plan: Plan, said: set[str]) -> None:
    """What was priced as no usage because none was given: an amount of zero would look like the price."""
    unused = sorted({meter for item in plan.items for meter in item.meters} - said)
    if unused == [ALONE]:
        console.print("No quantity was given, so it is priced as 0: add, for example, --quantity 1000.", soft_wrap=True)
    elif unused:
        names = escape(", ".join(unused))
        example = escape(f"--use {unused[0]}=1000")
        console.print(f"Priced without any usage of {names}: add, for example, {example}.", soft_wrap=True)


def _words(because: Iterable[str]) -> Iterable[str]:
    """Without the version, which a price that is tried has not got."""
    return (said for said in because if not said.startswith("Terms version"))
