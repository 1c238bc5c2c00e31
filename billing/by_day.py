"""Events of whom nothing else is known, by day, as totals are kept of customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from billing.aggregation import APART
from billing.catalog import Meter
from billing.folding import Clocks, Folding, portion_of
from billing.period import zone
from billing.portion import Portion
from billing.usage import BEFORE, Totals


def by_day(meters: Iterable[Meter], events: Iterable[tuple[str, datetime, Mapping[str, object]]]) -> Totals:
    """Of events given as type, time and data: as of a customer in UTC who had no level before the first of them."""
    by_id = {meter.meter_id: meter for meter in meters}
    folding, utc = Folding(by_id.values(), Clocks()), zone("UTC")
    for kind, moment, data in events:
        folding.add("", utc, kind, moment, data)
    found: dict[tuple[str, date], list[Portion]] = {}
    for (_, meter_id, day, kept, each), total in folding.days().items():
        meter = by_id[meter_id]
        if meter.carries:
            found.setdefault((meter_id, BEFORE), [])
        apart = each if meter.per_event or meter.aggregation in APART else None
        found.setdefault((meter_id, day), []).append(portion_of(meter, "UTC", kept, apart, total))
    return {place: tuple(portions) for place, portions in found.items()}
