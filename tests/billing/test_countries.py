"""The countries are those that the time zone database knows, and Kosovo."""

from __future__ import annotations

from importlib.resources import files

from billing.countries import COUNTRIES, wrong_country
from billing.taxes import EU


def test_the_codes_are_those_of_iso_3166() -> None:
    table = files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text().splitlines()
    assert COUNTRIES - {"XK"} == {line.split("\t")[0] for line in table if not line.startswith("#")}
    assert EU <= COUNTRIES


def test_what_is_no_country_is_said_to_be_none() -> None:
    assert not wrong_country("DE")
    assert wrong_country("XX") == "XX is no country code in use (ISO 3166-1)"
    assert wrong_country("EL").endswith("; did you mean GR")
