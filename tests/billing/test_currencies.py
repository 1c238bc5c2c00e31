"""Currencies and their decimal places, held against CLDR (through Babel) where it speaks of the same thing."""

from __future__ import annotations

import pytest
from babel.numbers import get_currency_precision, list_currencies

from billing.errors import Refused
from billing.money import CURRENCIES, Money, exponent

# ISO 4217 has these decimal places; CLDR says how many are usual in daily life, where small coins are gone.
CASH_IN_CLDR = set("AFN ALL IQD IRR KPW LAK LBP MGA MMK RSD SOS SYP YER".split())


def test_decimal_places_agree_with_cldr_but_for_what_is_gone_from_daily_life() -> None:
    differ = {currency for currency in CURRENCIES if exponent(currency) != get_currency_precision(currency)}
    assert differ == CASH_IN_CLDR
    assert {get_currency_precision(currency) for currency in differ} == {0}


def test_every_currency_is_known_elsewhere() -> None:
    assert CURRENCIES - list_currencies() == set()
    assert len(CURRENCIES) > 150


@pytest.mark.parametrize(("currency", "places"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("IQD", 3), ("HUF", 2)])
def test_decimal_places_of_iso_4217(currency: str, places: int) -> None:
    assert exponent(currency) == places
    assert str(Money(1, currency).major) == str(10**-places if places == 0 else f"0.{'0' * (places - 1)}1")


# XXX stands for no currency in ISO 4217, XAU for gold; the mark and the kuna are not in use any more.
@pytest.mark.parametrize("word", ["eur", "EU", "XXX", "XAU", "DEM", "", "HRK"])
def test_what_is_no_currency_in_use_is_refused(word: str) -> None:
    with pytest.raises(Refused) as refused:
        exponent(word)
    assert refused.value.code == "unknown_currency"
