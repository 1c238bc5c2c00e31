"""Of contrary questions about late usage, which is answered first; and what is billed, in whatever order they are."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.errors import Refused
from billing.late import Hold, Late, NextInvoice
from billing.pricing import PerUnit
from tests.billing.held_life import EQUAL, LATE, OFF, PLANS, D, Life

FEW = st.lists(st.tuples(EQUAL, st.lists(st.integers(0, 7), max_size=2)), min_size=3, max_size=7)
"""So that questions stay open."""


def asked_about(*calls: int) -> Life:
    """1,000 calls of January are billed; then so many come, or are taken back, and about each a question is open."""
    life = Life(PLANS["plain"], Hold())
    for some in calls:
        life.use(some)
    assert (life.billed, life.asked) == (1000, list(calls))
    return life


def test_what_may_be_billed_already_is_not_billed_before_what_is_to_be_given_back() -> None:
    life = asked_about(-300, 300)
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR already billed for this usage may have to be credited") as refused:
        life.books.answer(True)
    assert (refused.value.code, refused.value.remedy) == (
        "asked_before",
        "Answer first what else is asked about the same usage; or `waive`.",
    )
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (1000, [])


def test_nor_what_came_when_more_was_held_than_was_taken_back() -> None:
    """600 came and 300 were taken back; the next 200 are in no doubt, until the 600 are billed."""
    life = asked_about(600, -300, 200)
    life.books.answer(True)
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR already billed for this usage may have to be credited"):
        life.books.answer(True)
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (1500, [])


def test_what_was_kept_is_kept_and_what_came_is_billed_if_a_person_says_so() -> None:
    """The question says that it may be what is paid for already; only a person knows."""
    life = asked_about(-300, 300)
    assert life.books.asked[1].because.note == (
        "of what is billed, 3.00 EUR was to be given back and was held for a person: asked about, or waived, and never"
        " given back"
    )
    life.answers(False, True)
    assert (life.billed, life.asked) == (1300, [])
    other = asked_about(-300, 300)
    other.answers(False, False)
    assert (other.billed, other.asked) == (1000, [])


@pytest.mark.parametrize("name", [*PLANS])
@settings(derandomize=True, deadline=None, max_examples=80)
@given(then=LATE, steps=FEW)
def test_between_what_usage_ever_came_to_and_what_people_kept_or_waived(
    name: str, then: Late, steps: list[tuple[int, list[int]]]
) -> None:
    """No more is billed, whatever is open still; nor less, when nothing is: what is surely to be given back may be, at
    any time.
    """
    life = Life(PLANS[name], Hold())
    least = most = life.billed
    kept = lost = 0
    for n, (calls, answers) in enumerate(steps):
        if n == 4:
            life.policy(then)
        life.use(max(calls, -life.used))
        came_to = Life(PLANS[name], NextInvoice(), life.used).billed
        least, most = min(least, came_to), max(most, came_to)
        for number in answers:
            not_done = left_undone(life, number)
            kept, lost = kept - min(0, not_done), lost + max(0, not_done)
        life.bill()
        assert life.billed <= most + kept
        assert life.billed >= least - lost or life.asked
        assert not wait_for_each_other(life)


def wait_for_each_other(life: Life) -> bool:
    """Whether of the open questions none can be billed, as one or another is to be answered before."""
    codes = {_code_of_billing(deepcopy(life), n) for n in range(len(life.asked))}
    return "asked_before" in codes and "" not in codes


def _code_of_billing(life: Life, n: int) -> str:
    life.books.asked.insert(0, life.books.asked.pop(n))
    try:
        life.books.answer(True)
    except Refused as error:
        return error.code
    return ""


def left_undone(life: Life, number: int) -> int:
    """How much is not billed, or below zero not given back, by the answer to an open question; both by the number."""
    asked = life.books.asked
    if not asked:
        return 0
    asked.insert(0, asked.pop(number // 2 % len(asked)))
    line, said = asked[0], number % 2 == 1
    try:
        life.books.answer(said)
    except Refused:
        life.books.answer(False)
        said = False
    return 0 if said else line.net.minor


def test_nor_what_an_amount_off_takes_off_of_it() -> None:
    """3 EUR off: 10 calls at 0.50, of which 8 are taken back and come again."""
    fifty = replace(PLANS["discounts"].items[0], price=PerUnit(D("0.5")))
    life = Life(replace(PLANS["discounts"], items=(fifty,), discounts=OFF[1:]), Hold(), 10)
    life.use(-8)
    life.use(8)
    assert (life.billed, life.asked) == (200, [-200, 200])
    assert [_code_of_billing(deepcopy(life), n) for n in (0, 1)] == ["", "asked_before"]


def test_what_may_never_have_been_billed_is_not_given_back_before_what_came_is_billed() -> None:
    """Given back, and the 300 that came waived, 700 would be billed of usage that never came to less than 1,000."""
    life = asked_about(300, -300)
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR of this usage may still have to be billed; that question") as refused:
        life.books.answer(True)
    assert refused.value.code == "asked_before"
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (1000, [])


@pytest.mark.parametrize(("came", "back", "billed"), [(True, False, 1300), (False, True, 700), (False, False, 1000)])
def test_what_came_was_taken_back_or_not_if_a_person_says_so(came: bool, back: bool, billed: int) -> None:
    life = asked_about(300, -300)
    life.answers(came, back)
    assert (life.billed, life.asked) == (billed, [])


def test_of_two_questions_each_does_not_wait_for_the_other() -> None:
    """6.00 cannot be given back while 2.00 are billed, nor 4.00 be charged before: 2.00 of no usage stayed billed."""
    life = Life(PLANS["plain"], NextInvoice())
    for late, calls in ((NextInvoice(), -300), (Hold(), -600), (NextInvoice(), 400), (NextInvoice(), -500)):
        life.policy(late)
        life.use(calls)
    assert (life.billed, life.used, life.asked) == (200, 0, [-600, 400])
    with pytest.raises(Refused, match=r"would give back 6\.00 EUR, and 2\.00 EUR is billed"):
        life.books.answer(True)
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (0, [])
