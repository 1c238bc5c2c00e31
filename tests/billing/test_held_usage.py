"""Usage taken back of which a part was waived: what was billed may be given back, and what never was may not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.errors import Refused
from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from billing.late_usage import is_in_doubt
from billing.modifiers import Discount
from billing.money import Money, total
from billing.period import instant, zone
from billing.plan import Plan, PlanItem
from billing.pricing import Graduated, PerUnit, Tier
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed
from tests.billing.story import RATES

D = Decimal
FIRST, BERLIN = date(2026, 1, 1), zone("Europe/Berlin")
CALLS = PlanItem("calls", "Calls", PerUnit(D("0.01")), "meter", "calls")
TIERS = replace(CALLS, price=Graduated((Tier(D(900), D("0.01")), Tier(None, D("0.004")))))
OFF = (Discount("percent", D(20)), Discount("amount", D(3), name="Welcome"))
PLANS = {
    "plain": plan_of("EUR", CALLS),
    "tiers": plan_of("EUR", TIERS),
    "no line without usage": plan_of("EUR", replace(CALLS, zero_line=False)),
    "discounts": replace(plan_of("EUR", CALLS), discounts=OFF),
}


class Life:
    """January has been billed; each further step is usage of January, and a bill a month later."""

    def __init__(self, plan: Plan, late: Late, used: int = 1000) -> None:
        one = replace(signed(Agreement(FIRST, plan)), late=(("calls", late),))
        self.books, self.month, self.used = Books({"sub_1": one}, rates=RATES), 1, 0
        self.use(used)

    def use(self, calls: int) -> None:
        self.used += calls
        self.books.use("calls", FIRST, D(calls))
        self.bill()

    def bill(self) -> None:
        self.month += 1
        self.books.bill(instant(date(2026 + (self.month - 1) // 12, (self.month - 1) % 12 + 1, 1), BERLIN))

    def answers(self, *to_be_billed: bool) -> None:
        """About what is asked, in order; then all is billed."""
        for one in to_be_billed:
            self.books.answer(one)
        self.bill()

    def policy(self, late: Late) -> None:
        self.books.standing = replace(self.books.standing, late=(("calls", late),))

    @property
    def asked(self) -> list[int]:
        return [line.net.minor for line in self.books.asked]

    @property
    def billed(self) -> int:
        """Of January, on documents."""
        found = [line.net for d in self.books.documents for line in d.lines if line.period.start == FIRST]
        return total(found, "EUR").minor


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


BELOW_5 = IgnoreBelow((Below("EUR", D(5)),))


def test_what_is_in_doubt_is_not_given_back_before_what_is_sure() -> None:
    life = waived(Hold())
    life.use(-1300)
    life.books.asked.reverse()
    assert life.asked == [-300, -1000]
    with pytest.raises(Refused, match=r"10\.00 EUR is surely to be given back, about which a question is") as refused:
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
EQUAL = st.sampled_from([-900, -600, -400, -300, -200, 200, 300, 400, 600])
"""So that quantities of different lines are the same."""
SOME = st.lists(st.tuples(EQUAL, st.lists(st.integers(0, 7), min_size=4, max_size=4)), max_size=7)
FEW = st.lists(st.tuples(EQUAL, st.lists(st.integers(0, 7), max_size=2)), min_size=3, max_size=7)
"""So that questions stay open."""
LATE = st.sampled_from([NextInvoice(), CreditAndRebill(), BELOW_5, Hold()])


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


def given_back_is_asked_about() -> Life:
    """1,000 calls of January are billed; 300 are taken back, about which a question is open, and 300 come."""
    life = Life(PLANS["plain"], Hold())
    life.use(-300)
    life.use(300)
    assert (life.billed, life.asked) == (1000, [-300, 300])
    return life


def test_what_may_be_billed_already_is_not_billed_before_what_is_to_be_given_back() -> None:
    life = given_back_is_asked_about()
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR of what is billed for this usage may be to be given back") as refused:
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
    life = Life(PLANS["plain"], Hold())
    for calls in (600, -300, 200):
        life.use(calls)
    assert life.asked == [600, -300, 200]
    life.books.answer(True)
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR of what is billed for this usage may be to be given back"):
        life.books.answer(True)
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (1500, [])


def test_what_was_kept_is_kept_and_what_came_is_billed_if_a_person_says_so() -> None:
    """The question says that it may be what is paid for already; only a person knows."""
    life = given_back_is_asked_about()
    assert life.books.asked[1].because.note == (
        "of what is billed, 3.00 EUR was to be given back and was held for a person: asked about, or waived, and never"
        " given back"
    )
    life.answers(False, True)
    assert (life.billed, life.asked) == (1300, [])
    other = given_back_is_asked_about()
    other.answers(False, False)
    assert (other.billed, other.asked) == (1000, [])


@pytest.mark.parametrize("name", ["plain", "tiers", "no line without usage"])
@settings(derandomize=True, deadline=None, max_examples=80)
@given(then=LATE, steps=FEW)
def test_between_what_usage_ever_came_to_and_what_people_kept_or_waived(
    name: str, then: Late, steps: list[tuple[int, list[int]]]
) -> None:
    """No more is billed, nor less, at any time, whatever is open still."""
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
        assert least - lost <= life.billed <= most + kept


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


def usage_that_came_is_asked_about() -> Life:
    """1,000 calls of January are billed; 300 come, about which a question is open, and 300 are taken back."""
    life = Life(PLANS["plain"], Hold())
    life.use(300)
    life.use(-300)
    assert (life.billed, life.asked) == (1000, [300, -300])
    return life


def test_what_may_never_have_been_billed_is_not_given_back_before_what_came_is_billed() -> None:
    """Given back, and the 300 that came waived, 700 would be billed of usage that never came to less than 1,000."""
    life = usage_that_came_is_asked_about()
    life.books.asked.reverse()
    with pytest.raises(Refused, match=r"3\.00 EUR of this usage may not be billed yet, about which a") as refused:
        life.books.answer(True)
    assert refused.value.code == "asked_before"
    life.books.asked.reverse()
    life.answers(True, True)
    assert (life.billed, life.asked) == (1000, [])


@pytest.mark.parametrize(("came", "back", "billed"), [(True, False, 1300), (False, True, 700), (False, False, 1000)])
def test_what_came_was_taken_back_or_not_if_a_person_says_so(came: bool, back: bool, billed: int) -> None:
    life = usage_that_came_is_asked_about()
    life.answers(came, back)
    assert (life.billed, life.asked) == (billed, [])
