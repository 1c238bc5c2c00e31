"""The worked example of docs/PRICING.md is built and priced as it stands there; and the guide names every model."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from billing.modifiers import Bounds
from billing.plan import PlanItem
from billing.pricing import Price
from billing.recipe import work_out
from billing.usage import units

GUIDE = Path(__file__).parents[2].joinpath("docs/PRICING.md").read_text()


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's class, from a module of that name."""
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    module = ModuleType("billing.pricing.capped")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "docs/PRICING.md", "exec"), module.__dict__)
    return module.Capped


def test_the_example_is_a_price_like_the_others(capped: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Price | capped)
    read = adapter.validate_python({"kind": "capped", "rate": "0.25", "cap": "10"})
    assert read == capped(Decimal("0.25"), Decimal(10))
    assert adapter.validate_python(adapter.dump_python(read, mode="json")) == read
    for quantity, expected in ((0, "0"), (39, "9.75"), (40, "10"), (41, "10"), (10**18, "10"), (-4, "-1")):
        worked = work_out(PlanItem("a", "A", read, "meter", "calls"), units(Decimal(quantity)))
        assert worked.amount.rounded("EUR").major == Decimal(expected)
    floored = PlanItem("a", "A", read, "meter", "calls", free=Decimal(1), bounds=Bounds(Decimal(2)))
    assert work_out(floored, units(Decimal(5))).amount.rounded("EUR").major == Decimal(2)


def test_the_example_refuses_wrong_figures(capped: Any) -> None:
    assert [fault.field for fault in capped(Decimal(-1), Decimal("NaN")).faults()] == ["rate", "cap"]
    assert not capped(Decimal(-1), Decimal(1)).faults(negative=True)


def test_the_guide_names_every_model() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE))
    assert named == {field.default for model in get_args(Price) for field in fields(model) if field.name == "kind"}
