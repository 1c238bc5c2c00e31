"""Usage taken back of which a part was waived: what was billed may be given back, and what never was may not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.errors import Refused
from billing.late import CreditAndRebill, Hold, Late, NextInvoice
from billing.late_usage import is_in_doubt
from billing.money import Money
from tests.billing.held_life import BELOW_5, EQUAL, LATE, PLANS, Life


def waived(late: Late) -> Life:
    """1,000 calls of January are billed, and 300 that came late are waived; then the policy is `late`."""
    life = Life(PLANS["plain"], Hold())
    life.use(300)
    life.books.answer(False)
    life.policy(late)
    return life


@pytest.mark.parametrize("late", [NextInvoice(), CreditAndRebill()])
def test_what_was_billed_is_given_back_and_what_was_waived_is_asked_about(late: Late) -> None:
    """500 of the 800 were billed, for no more than 300 were not. Of the rest a person knows."""
    life = waived(late)
    life.use(-800)
    assert (life.billed, life.asked) == (500, [-300])
    life.answers(False)
    assert (life.billed, life.asked) == (500, [])


def test_all_is_taken_back_and_no_more_than_was_billed_is_given_back() -> None:
    life = waived(Hold())
    life.use(-1300)
    assert life.asked == [-1000, -300]
    assert life.books.answer(True).net == Money(-1000, "EUR")
    with pytest.raises(Refused, match=r"would give back 3\.00 EUR, and 0\.00 EUR is billed") as refused:
        life.books.answer(True)
    assert refused.value.code == "never_billed"
    life.answers(False)
    assert (life.billed, life.asked) == (0, [])
    life.use(40)
    assert life.asked == [40]


def test_a_person_says_that_what_was_billed_is_what_was_taken_back() -> None:
    life = waived(NextInvoice())
    life.use(-300)
    assert (life.billed, life.asked) == (1000, [-300])
    life.answers(True)
    assert (life.billed, life.asked) == (700, [])


def test_what_was_asked_about_is_not_given_back_before_it_is_billed() -> None:
    life = Life(PLANS["no line without usage"], Hold(), 0)
    life.use(600)
    life.use(-600)
    assert life.asked == [600, -600]
    life.books.asked.reverse()
    with pytest.raises(Refused):
        life.books.answer(True)
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (0, [])


def test_what_is_in_doubt_is_not_given_back_before_what_is_sure() -> None:
    life = waived(Hold())
    life.use(-1300)
    life.books.asked.reverse()
    assert life.asked == [-300, -1000]
    with pytest.raises(Refused, match=r"10\.00 EUR is certain to be credited; that question is still open") as refused:
        life.books.answer(True)
    assert refused.value.remedy == "Answer `waive`; or first what else is asked about the same usage."
    life.books.asked.reverse()
    assert life.books.answer(True).net == Money(-1000, "EUR")
    with pytest.raises(Refused, match=r"0\.00 EUR is billed") as refused:
        life.books.answer(True)
    assert refused.value.remedy == "Answer `waive`.", "nothing else is asked"
    life.answers(False)
    assert (life.billed, life.asked) == (0, [])


def test_what_is_in_doubt_may_be_given_back_if_what_is_sure_was_waived() -> None:
    life = waived(Hold())
    life.use(-1300)
    life.answers(False, True)
    assert (life.billed, life.asked) == (700, [])


def test_what_a_person_said_of_a_doubt_makes_no_less_sure_what_was_billed() -> None:
    """200 of the 300 that were waived are taken back, and a person says that it is those."""
    life = waived(Hold())
    life.use(-200)
    life.books.answer(False)
    life.use(-1100)
    assert life.asked == [-1000, -100]
    life.answers(True, False)
    assert (life.billed, life.asked) == (0, [])


def test_of_tiers_all_money_is_given_back_though_the_quantity_was() -> None:
    """Of 1,000 for 9.40 as many are given back for 4.00, as they are cheaper beyond 900; those of above were waived."""
    life = Life(PLANS["tiers"], Hold())
    life.use(1400)
    life.books.answer(False)
    for calls in (-400, -600):
        life.use(calls)
        life.books.answer(True)
    life.use(-life.used)
    assert (life.billed, life.asked[0]) == (540, -540)
    life.answers(True, False)
    assert (life.billed, life.asked) == (0, [])


@pytest.mark.parametrize("then", [NextInvoice(), Hold()])
def test_two_differences_of_one_window_never_have_the_same_key(then: Late) -> None:
    """Twice as much is taken back as was waived; the sure half is below the amount and ignored, later it is not."""
    life = waived(BELOW_5)
    life.use(-600)
    [doubtful] = life.books.asked
    assert (life.asked, is_in_doubt(doubtful)) == ([-300], True)
    life.books.answer(False)
    life.policy(then)
    life.bill()
    keys = [line.key for line in (*life.books.asked, *life.books.standing.set_aside)]
    keys += [line.key for document in life.books.documents for line in document.lines if line.kind == "late_usage"]
    assert len({*keys, doubtful.key}) == 3
    assert (life.billed, life.asked) == ((700, []) if then == NextInvoice() else (1000, [-300]))


def test_a_doubtful_difference_that_is_billed_is_asked_about_again_under_another_key() -> None:
    life = waived(BELOW_5)
    life.use(-600)
    first = life.books.answer(True)
    life.bill()
    assert life.asked == [-300]
    assert life.books.asked[0].key != first.key


STEPS = st.lists(st.tuples(st.integers(-1500, 1500), st.lists(st.booleans(), min_size=4, max_size=4)), max_size=7)
SOME = st.lists(st.tuples(EQUAL, st.lists(st.integers(0, 7), min_size=4, max_size=4)), max_size=7)


@pytest.mark.parametrize("name", PLANS)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(first=LATE, then=LATE, steps=STEPS)
def test_however_people_answer_no_more_is_given_back_than_was_billed(
    name: str, first: Late, then: Late, steps: list[tuple[int, list[bool]]]
) -> None:
    """Usage of a window goes up and down, never below nothing, and people answer at random."""
    life = Life(PLANS[name], first)
    for n, (calls, answers) in enumerate(steps):
        if n == 2:
            life.policy(then)
        life.use(max(calls, -life.used))
        for said in answers:
            if life.books.asked:
                try:
                    life.books.answer(said)
                except Refused:
                    life.books.answer(False)
        assert life.billed >= 0
    life.bill()
    assert life.billed >= 0


@pytest.mark.parametrize("name", PLANS)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(first=LATE, then=LATE, steps=SOME, last=st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_when_all_is_void_all_that_was_billed_is_given_back(
    name: str, first: Late, then: Late, steps: list[tuple[int, list[int]]], last: list[int]
) -> None:
    """Whatever else is said, and in whatever order, if what is surely to be given back is."""
    life = Life(PLANS[name], first)
    for n, (calls, answers) in enumerate(steps):
        if n == 2:
            life.policy(then)
        life.use(max(calls, -life.used))
        for number in answers:
            answer(life, number)
        assert life.billed >= 0
    life.policy(Hold())
    life.use(-life.used)
    for number in (*last, *[1] * 8):
        answer(life, number)
    life.bill()
    assert (life.billed, life.asked) == (0, [])


def answer(life: Life, number: int) -> None:
    """Of one of the open questions: `bill` if it surely gives back; else by the number, and `waive` where refused."""
    asked = life.books.asked
    if asked:
        asked.insert(0, asked.pop(number // 2 % len(asked)))
        surely_back = asked[0].net.minor < 0 and not is_in_doubt(asked[0])
        try:
            life.books.answer(surely_back or number % 2 == 1)
        except Refused:
            assert not surely_back, "what is sure may be given back at any time"
            life.books.answer(False)
