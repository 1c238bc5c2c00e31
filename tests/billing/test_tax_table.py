"""The tax table that ships, held against an independent source of today's rates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from itertools import pairwise

from eu_vat_rates_data import get_rate

from billing.taxes import EU, TaxRate
from models.tax import seed_rates

RATES = [TaxRate(r.country, r.percent, r.valid_from, r.valid_until) for r in seed_rates()]
THE_DAY_OF_THEIR_DATA = date(2026, 9, 29)


def test_todays_rates_are_those_of_the_independent_source() -> None:
    countries = {r.country for r in RATES}
    assert countries >= EU
    for country in countries:
        [here] = [r.percent for r in RATES if r.country == country and r.on(THE_DAY_OF_THEIR_DATA)]
        there = get_rate(country)
        assert there is not None, country
        assert here == Decimal(str(there["standard"])), country


def test_a_countrys_rates_follow_on_each_other() -> None:
    for country in {r.country for r in RATES}:
        mine = sorted((r for r in RATES if r.country == country), key=lambda r: r.valid_from)
        assert [r.valid_until for r in mine] == [*(r.valid_from for r in mine[1:]), None]
        assert mine[0].valid_from <= date(2020, 1, 1), "reaches back to 2020"
        assert all(a.percent != b.percent for a, b in pairwise(mine))
