"""Worked examples that other billing systems publish, from vendors/*.toml, come out here to the cent.

An example names the vendor's page and says in our words what it shows. One of a price gives our terms and, for each of
its `bills`, what was used and what it costs (`steps` and `adjusted`, where published, are the amounts of the steps and
what bounds added). One of a life, such as proration, is told as the stories are (tests/billing/story.py).

Where a vendor counts otherwise (to the second, months of 30 days, the day of a change as used), an example is here only
if days exist on which both give the published figures; docs/CONVENTIONS.md says what is done here.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.billing.price_story import read_one_price
from tests.billing.story import Told, tell_life

ABOUT = {"topic", "page", "url", "says", "bills"}
LIFE = {"plans", "agreed", "steps"}


@dataclass(frozen=True)
class Example:
    """One published example; `told` is what the file says."""

    vendor: str
    number: int
    told: Told

    @property
    def name(self) -> str:
        return f"{self.vendor}-{self.number}-{self.told['topic'].replace(' ', '_')}"


def _examples() -> Iterator[Example]:
    for path in sorted(Path(__file__).parent.joinpath("vendors").glob("*.toml")):
        book = tomllib.loads(path.read_text(), parse_float=Decimal)
        assert book.keys() == {"vendor", "example"}, path.name
        for number, told in enumerate(book["example"], 1):
            yield Example(path.stem, number, told)


EXAMPLES = tuple(_examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_published_example_comes_out_to_the_cent(example: Example) -> None:
    told = example.told
    assert {"topic", "page", "url", "says"} <= told.keys()
    if "steps" in told:
        assert told.keys() <= ABOUT | LIFE
        tell_life({"story": told["says"]} | {part: told[part] for part in LIFE})
        return
    assert told["bills"], "an example without figures shows nothing"
    terms = {"currency": "USD"} | {key: value for key, value in told.items() if key not in ABOUT}
    for bill in told["bills"]:
        _compare(terms, bill)


def _compare(terms: Told, bill: Told) -> None:
    used = {key: value for key, value in bill.items() if key not in ("amount", "steps", "adjusted")}
    asked = read_one_price(terms | used)
    seen = asked.worked_out()
    assert seen.amount.rounded(asked.plan.currency, asked.plan.ties).major == bill["amount"], used
    if "steps" in bill:
        assert [step.amount.value for step in seen.steps] == bill["steps"]
    if "adjusted" in bill:
        assert sum(Fraction(one.amount) for one in seen.adjustments) == bill["adjusted"]


def test_every_vendor_and_every_topic_has_at_least_two() -> None:
    vendors = Counter(example.vendor for example in EXAMPLES)
    topics = Counter(example.told["topic"] for example in EXAMPLES)
    assert len(vendors) >= 7
    assert min(vendors.values()) >= 2, vendors
    assert all(topics[topic] >= 2 for topic in ("graduated", "volume", "packages", "percentage", "proration")), topics


def test_every_example_names_a_page_of_its_vendor() -> None:
    for example in EXAMPLES:
        url = urlsplit(example.told["url"])
        assert url.scheme == "https", example.name
        # Orb's documentation lies at withorb.com and, as its host renders it, under a name that begins with orb.
        assert example.vendor in (url.hostname or "") + url.path, f"{example.name} names {url.hostname}"
