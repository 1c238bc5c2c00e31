"""Money, exactly: whole minor units with a currency, exact amounts before rounding, and one rounding gate.

`Rate * quantity` gives an `Amount` without any rounding; amounts add up exactly; `Amount.rounded` is the only
place in the system where a fraction of a minor unit is lost. Floats are refused everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from billing.errors import Broken, Refused

Ties = Literal["away_from_zero", "to_even"]

MOST_MINOR = 10**15
"""No line and no document comes to more minor units, up or down: thousands of them can be added up in 64 bits, and
every reader of JSON keeps them exactly.
"""

# ISO 4217: currencies in use, and those whose minor unit is not a hundredth.
CURRENCIES = frozenset(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ "
    "GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR "
    "LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN "
    "PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
    "TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG".split()
)
_EXPONENTS = dict.fromkeys(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0
) | dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit (ISO 4217): 2 for EUR, 0 for JPY, 3 for KWD."""
    if currency not in CURRENCIES:
        raise Refused(
            f"{currency!r} is not a currency in use.",
            code="unknown_currency",
            remedy="Use an ISO 4217 code in capitals, such as EUR.",
        )
    return _EXPONENTS.get(currency, 2)


@dataclass(frozen=True, slots=True)
class Money:
    """A whole number of minor units (cents) of one currency. Different currencies do not add up."""

    minor: int
    currency: str

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._same(other).minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._same(other).minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._same(other).minor

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._same(other).minor

    def __bool__(self) -> bool:
        return self.minor != 0

    def __str__(self) -> str:
        return f"{self.major:,f} {self.currency}"

    @property
    def major(self) -> Decimal:
        """The same in units of the currency, with all its decimal places: `Decimal('12.50')`."""
        digits = tuple(int(d) for d in str(abs(self.minor)))
        return Decimal((int(self.minor < 0), digits, -exponent(self.currency)))

    @property
    def amount(self) -> Amount:
        return Amount(Fraction(self.minor, 10 ** exponent(self.currency)))

    def _same(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise Broken(f"{self} and {other} are of different currencies")
        return other

    @classmethod
    def zero(cls, currency: str) -> Money:
        return cls(0, currency)

    @classmethod
    def of(cls, major: Decimal | str, currency: str) -> Money:
        """From units of the currency; refused if it has more decimals than the currency has."""
        minor = Fraction(Decimal(major)) * 10 ** exponent(currency)
        if minor.denominator != 1:
            raise Refused(
                f"{major} has more decimal places than {currency} has.",
                code="too_many_decimals",
                remedy=f"Give at most {exponent(currency)} decimal places.",
            )
        return cls(minor.numerator, currency)


def total(parts: Sequence[Money], currency: str) -> Money:
    return sum(parts, Money.zero(currency))


def refuse_beyond(money: Money, what: str) -> None:
    """Refused (`amount_too_large`) if it is more than any amount may be; `what` comes to it."""
    if abs(money.minor) > MOST_MINOR:
        most = Money(MOST_MINOR, money.currency)
        raise Refused(
            f"{what}: that comes to {money}, and no amount may be beyond {most}.",
            code="amount_too_large",
            remedy="Look whether the quantity or the price is wrong. Events that are wrong are made void by"
            " POST /v1/events/corrections.",
        )


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact, unrounded quantity of currency units. It becomes money through `rounded`, once per line."""

    value: Fraction

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.value + other.value)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.value - other.value)

    def __neg__(self) -> Amount:
        return Amount(-self.value)

    def times(self, share: Fraction | Decimal | int) -> Amount:
        """An exact part or multiple of it, such as 16 of 31 days."""
        return Amount(self.value * Fraction(share))

    def rounded(self, currency: str, ties: Ties = "away_from_zero") -> Money:
        """To the currency's minor unit; the only rounding gate of the system."""
        above, below = self.value.numerator, self.value.denominator
        whole, rest = divmod(abs(above) * 10 ** exponent(currency), below)
        doubled = 2 * rest
        up = doubled > below or (doubled == below and (ties == "away_from_zero" or whole % 2 == 1))
        minor = whole + up
        return Money(-minor if above < 0 else minor, currency)


NOTHING = Amount(Fraction(0))


@dataclass(frozen=True, slots=True)
class Rate:
    """A price per unit with any number of decimals, in currency units: `Rate(Decimal('0.0000025'))` per token."""

    per_unit: Decimal

    def __mul__(self, quantity: Decimal) -> Amount:
        return Amount(Fraction(self.per_unit) * Fraction(quantity))


def split(whole: Money, weights: Sequence[int]) -> tuple[Money, ...]:
    """`whole` in proportion to `weights`, exact to the last minor unit.

    The units left over by rounding down go to the largest remainders, earliest first. Mirrors for negatives:
    `split(-m, w)` is the negative of `split(m, w)`, so a reversal undoes every share. Weights must not be
    negative; if all are zero the shares are equal.
    """
    if not weights:
        raise Broken("nothing to split over")
    if min(weights) < 0:
        raise Broken(f"weights must not be negative: {weights}")
    shares = list(weights) if any(weights) else [1] * len(weights)
    units, everything = abs(whole.minor), sum(shares)
    parts = [units * share // everything for share in shares]
    remainders = [units * share % everything for share in shares]
    neediest = sorted(range(len(shares)), key=lambda i: (-remainders[i], i))
    for i in neediest[: units - sum(parts)]:
        parts[i] += 1
    sign = -1 if whole.minor < 0 else 1
    return tuple(Money(sign * part, whole.currency) for part in parts)
