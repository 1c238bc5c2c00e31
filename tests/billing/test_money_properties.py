"""What must hold for every amount: sharing out, rounding, adding up, discounts and draws."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.credits import Grant, draw
from billing.line import Because, Line, discounted
from billing.money import Amount, Money, Rate, exponent, split, total
from billing.period import Period
from billing.pricing import Graduated, PerUnit, Tier
from billing.quantity import added_up, less
from billing.usage import units

steady = settings(derandomize=True, deadline=None, max_examples=100)
MINOR = st.integers(-(10**15), 10**15)
CURRENCY = st.sampled_from(["EUR", "JPY", "KWD"])
DECIMALS = st.decimals(min_value=-(10**9), max_value=10**9, places=9)
QUANTITIES = st.decimals(min_value=0, max_value=10**6, places=3)


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


@steady
@given(MINOR, st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
def test_a_split_is_exact_mirrored_and_near(minor: int, weights: list[int]) -> None:
    shares = split(eur(minor), weights)
    assert total(shares, "EUR") == eur(minor)
    assert split(eur(-minor), weights) == tuple(-share for share in shares)
    whole = sum(weights) or len(weights)
    for share, weight in zip(shares, weights if any(weights) else [1] * len(weights), strict=True):
        assert abs(share.minor - Fraction(minor * weight, whole)) < 1


@steady
@given(st.integers(0, 10**6), st.lists(st.integers(0, 1000), min_size=2, max_size=8), st.data())
def test_a_split_favours_no_position_beyond_a_unit(minor: int, weights: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(weights))))
    there = split(eur(minor), weights)
    here = split(eur(minor), [weights[i] for i in order])
    for place, i in enumerate(order):
        assert abs(here[place].minor - there[i].minor) <= 1
    assert sum(s.minor for s in here) == sum(s.minor for s in there) == minor


@steady
@given(DECIMALS | st.integers(-999, 999).map(lambda n: Decimal(n) / 2), CURRENCY)
def test_the_rounding_gate_agrees_with_decimal(value: Decimal, currency: str) -> None:
    unit = Decimal(1).scaleb(-exponent(currency))
    half = value * unit
    for number in (value, half):
        amount = Amount(Fraction(number))
        assert amount.rounded(currency).major == number.quantize(unit, ROUND_HALF_UP)
        assert amount.rounded(currency, "to_even").major == number.quantize(unit, ROUND_HALF_EVEN)
        assert (-amount).rounded(currency) == -amount.rounded(currency)


@steady
@given(st.lists(st.fractions(max_denominator=10**6), min_size=3, max_size=3), st.fractions(max_denominator=99))
def test_amounts_add_up_in_any_order(values: list[Fraction], share: Fraction) -> None:
    a, b, c = (Amount(value) for value in values)
    assert (a + b) + c == a + (b + c) == c + (b + a)
    assert a.times(share) + b.times(share) == (a + b).times(share)
    assert a - a == Amount(Fraction(0))


@steady
@given(st.integers(-(10**30), 10**30), CURRENCY)
def test_money_is_read_back_from_its_major_units(minor: int, currency: str) -> None:
    assert Money.of(Money(minor, currency).major, currency) == Money(minor, currency)


@st.composite
def graduated(draw_: st.DrawFn) -> Graduated:
    widths = draw_(st.lists(st.decimals(min_value="0.001", max_value=1000, places=3), max_size=4))
    bounds = [added_up(widths[: n + 1]) for n in range(len(widths))]
    prices = st.decimals(min_value=0, max_value=100, places=7)
    return Graduated(tuple(Tier(up_to, draw_(prices), draw_(prices)) for up_to in (*bounds, None)))


@steady
@given(graduated(), QUANTITIES, QUANTITIES)
def test_graduated_is_the_sum_of_its_tiers_and_never_falls(price: Graduated, quantity: Decimal, more: Decimal) -> None:
    assert not price.faults()
    charged = price.charge(units(quantity))
    assert added_up(step.quantity for step in charged.steps) == quantity
    expected, floor = Fraction(0), Fraction(0)
    for n, tier in enumerate(price.tiers):
        top = Fraction(quantity) if tier.up_to is None else min(Fraction(tier.up_to), Fraction(quantity))
        inside = max(Fraction(0), top - floor)
        if inside or n == 0:
            expected += inside * Fraction(tier.rate) + Fraction(tier.flat_fee)
        floor = Fraction(tier.up_to or 0)
    assert charged.amount == Amount(expected)
    assert price.charge(units(quantity + more)).amount.value >= charged.amount.value


@steady
@given(QUANTITIES, DECIMALS)
def test_one_tier_is_a_price_per_unit(quantity: Decimal, rate: Decimal) -> None:
    one = Graduated((Tier(None, rate),))
    assert one.charge(units(quantity)).amount == PerUnit(rate).charge(units(quantity)).amount == Rate(rate) * quantity


def line(n: int, gross: int, percent: Decimal) -> Line:
    because = Because(1, "pro", 1, "flat", Decimal(1), discount_percent=percent)
    period = Period(date(2026, 1, 1), date(2026, 2, 1))
    return Line(f"line/{n}", "recurring", "fee", "Fee", period, eur(gross), eur(0), "recurring", because)


@steady
@given(
    st.lists(
        st.tuples(st.integers(-10_000, 10_000), st.sampled_from(["0", "7.5", "33.333", "100"]).map(Decimal)),
        min_size=1,
        max_size=8,
    )
)
def test_discounts_are_spread_exactly(told: list[tuple[int, Decimal]]) -> None:
    before = [line(n, gross, percent) for n, (gross, percent) in enumerate(told)]
    after = discounted(before)
    assert [x.key for x in after] == [x.key for x in before]
    for percent in {percent for _, percent in told}:
        for sign in (1, -1):
            mine = [x for x in after if x.because.discount_percent == percent and x.gross.minor * sign > 0]
            off = total([x.gross for x in mine], "EUR").amount.times(Fraction(percent) / 100).rounded("EUR")
            assert total([x.discount for x in mine], "EUR") == off
    for x in after:
        assert 0 <= x.discount.minor <= x.gross.minor or x.gross.minor <= x.discount.minor <= 0
    mirrored = discounted([line(n, -gross, percent) for n, (gross, percent) in enumerate(told)])
    assert [-x.discount.minor for x in mirrored] == [x.discount.minor for x in after]


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@st.composite
def grants(draw_: st.DrawFn) -> list[Grant]:
    days = st.integers(-3, 3).map(lambda d: NOON + timedelta(days=d))
    return [
        Grant(
            f"cg_{n}",
            Money(draw_(st.integers(-5, 500)), draw_(st.sampled_from(["EUR", "EUR", "USD"]))),
            draw_(st.integers(0, 2)),
            draw_(days),
            draw_(st.none() | days),
        )
        for n in range(draw_(st.integers(0, 6)))
    ]


@steady
@given(grants(), st.integers(-500, 1500))
def test_a_draw_is_never_more_than_due_or_left(open_: list[Grant], due: int) -> None:
    drawn = draw(open_, eur(due), NOON)
    usable = {
        g.grant_id: g.remaining
        for g in open_
        if g.remaining.currency == "EUR" and g.remaining.minor > 0 and (g.expires_at is None or g.expires_at > NOON)
    }
    for taken in drawn:
        assert 0 < taken.amount.minor <= usable[taken.grant_id].minor
    assert len({d.grant_id for d in drawn}) == len(drawn)
    possible = min(max(due, 0), total(list(usable.values()), "EUR").minor)
    assert total([d.amount for d in drawn], "EUR").minor == possible
    assert draw(list(reversed(open_)), eur(due), NOON) == drawn


def test_credit_that_expires_first_burns_first() -> None:
    soon, late = NOON + timedelta(days=1), NOON + timedelta(days=2)
    purse = [
        Grant("never", eur(10), 0, NOON),
        Grant("late", eur(10), 0, NOON, late),
        Grant("now", eur(10), 0, NOON, NOON),
        Grant("soon", eur(10), 0, NOON, soon),
        Grant("preferred", eur(10), -1, NOON),
    ]
    assert [d.grant_id for d in draw(purse, eur(35), NOON)] == ["preferred", "soon", "late", "never"]


def test_quantities_do_not_depend_on_the_decimal_context() -> None:
    huge, sliver = Decimal(10) ** 40, Decimal("1e-40")
    with localcontext(Context(prec=3)):
        assert less(added_up([huge, sliver]), huge) == sliver
        tiers = Graduated((Tier(Decimal("1000.5"), Decimal(1)), Tier(None, Decimal(2))))
        steps = tiers.charge(units(Decimal("123456.25")))
    assert [step.quantity for step in steps.steps] == [Decimal("1000.5"), Decimal("122455.75")]
