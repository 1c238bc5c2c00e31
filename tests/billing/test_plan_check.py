"""A wrong plan is refused, with each field's path and the reason: row by row of broken_plans.py."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from billing import modifiers, plan_check, quantity
from billing.errors import Fault, Refused
from billing.plan import Plan
from billing.plan_check import check, plan_faults
from billing.pricing import capacity, charged, formula, grouped, matrix, percentage, tiers
from tests.billing.broken_plans import (
    BASE,
    BELOW,
    BROKEN,
    GOOD,
    NEGATIVE,
    OF_CURRENCIES,
    OF_ITEMS,
    OF_MODELS,
    OF_THE_PLAN,
)
from tests.billing.strategies import KNOWN


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plan_is_refused_at_exactly_these_paths(name: str) -> None:
    plan, expected = BROKEN[name]
    with pytest.raises(Refused) as refused:
        check(plan, KNOWN)
    assert refused.value.code == "invalid_plan"
    assert refused.value.remedy
    faults = refused.value.faults
    assert sorted(fault.field for fault in faults) == sorted(expected)
    for fault in faults:
        assert expected[fault.field] in fault.reason, fault


def test_the_plan_that_they_are_made_from_is_not_refused() -> None:
    check(GOOD, KNOWN)
    assert len(BROKEN) == sum(len(rows) for rows in (OF_THE_PLAN, OF_CURRENCIES, OF_ITEMS, OF_MODELS)), "a name twice"


def test_all_faults_are_named_at_once() -> None:
    wrong: list[Plan] = [plan for plan, _ in OF_MODELS.values()]
    items = tuple(replace(plan.items[0], key=f"it{i}") for i, plan in enumerate(wrong))
    found = [fault.field for fault in plan_faults(replace(GOOD, items=items), KNOWN)]
    each = [fault.field for i, plan in enumerate(wrong) for fault in plan_faults(plan, KNOWN)]
    assert len(found) == len(each)


def test_negative_figures_are_taken_where_they_are_permitted() -> None:
    negative = [name for name, (_, why) in OF_MODELS.items() if set(why.values()) == {NEGATIVE}]
    assert len(negative) >= 6
    for name in negative:
        plan = OF_MODELS[name][0]
        allowed = replace(plan, items=tuple(replace(item, allow_negative=True) for item in plan.items))
        assert not [f for f in plan_faults(allowed, KNOWN) if "free" not in f.field], name
    check(replace(GOOD, items=(replace(BASE, price=replace(BASE.price, amount=BELOW), allow_negative=True),)), KNOWN)


def test_every_rule_has_a_row() -> None:
    """Each line that makes a fault, in the check and in what it asks, is reached by some row."""
    rules = [plan_check, modifiers, quantity, capacity, charged, formula, grouped, matrix, percentage, tiers]
    made: set[tuple[str, int]] = set()

    def watch(frame: FrameType, event: str, seen: object) -> None:
        if event == "call" and frame.f_code is Fault.__init__.__code__ and frame.f_back:
            made.add((frame.f_back.f_code.co_filename, frame.f_back.f_lineno))

    sys.setprofile(watch)
    try:
        for plan, _ in BROKEN.values():
            list(plan_faults(plan, KNOWN))
    finally:
        sys.setprofile(None)
    for module in rules:
        assert module.__file__
        source = Path(module.__file__).read_text()
        calls = [node for node in ast.walk(ast.parse(source)) if _makes_a_fault(node)]
        for call in calls:
            lines = range(call.lineno, (call.end_lineno or call.lineno) + 1)
            assert any((module.__file__, line) in made for line in lines), f"{module.__file__}:{call.lineno}"


def _makes_a_fault(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault"
