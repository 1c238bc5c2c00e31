"""Every price story in prices/ holds: its own figures first, then the engine's."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from billing.pricing import Price
from tests.billing.price_story import PriceStory, price_stories, tell_one_price
from tests.billing.story import Told, tell_life

STORIES = price_stories()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_price_story(story: PriceStory) -> None:
    if story.whole_life:
        tell_life(story.told)
    else:
        tell_one_price(story.told)


def test_there_are_enough_stories_and_each_has_a_name_of_its_own() -> None:
    assert len(STORIES) >= 150
    assert [name for name, many in Counter(story.name for story in STORIES).items() if many > 1] == []


def test_every_pricing_model_has_at_least_six_stories() -> None:
    told = Counter(kind for story in STORIES for kind in _kinds(story.told))
    kinds = {model.__dataclass_fields__["kind"].default for model in get_args(Price)}
    assert told.keys() == kinds
    assert {kind: many for kind, many in told.items() if many < 6} == {}


def _kinds(told: Told) -> set[str]:
    """The kinds of price that a story is about; grouped prices have one inside, which does not count."""
    if "price" in told:
        return {told["price"]["kind"]}
    items = [item for plan in told["plans"].values() for item in plan["items"]]
    return {item["price"]["kind"] for item in items if "price" in item}
