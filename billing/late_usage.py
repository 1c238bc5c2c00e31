"""Late usage: what came, or was taken back, after its window was billed, and what becomes of it by the meter's policy.

The difference of a window is what was folded by now less what was billed and what was held for a person. It is
worked out anew each time; nothing here remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from billing.errors import Refused
from billing.late import CreditAndRebill, Hold, IgnoreBelow
from billing.line import Line, Taken, share_off, with_off
from billing.modifiers import exact
from billing.money import Money, total
from billing.pricing import Step
from billing.proration import CREDITED
from billing.quantity import added_up
from billing.rating import ItemWindow, rate_late_usage, usage_windows
from billing.spend import PLAN, asks_of_periods, late_true_ups, spent
from billing.standing import FEES_REACH, BilledUsage, Standing
from billing.usage import Measured, Totals, carries_over

_IN_DOUBT = "/in-doubt"
"""Ends the key of a difference that is in doubt."""


@dataclass(frozen=True, slots=True)
class LateUsage:
    """What becomes of each difference. `lines` go on the next document, with what they change in the plan's bounds.

    About `held` ones a person is to be asked. `ignored` ones stay differences. `released` are those that a person
    wants billed: they wait for the next document with all other pending lines, and are not in `lines`.
    """

    lines: tuple[Line, ...] = ()
    held: tuple[Line, ...] = ()
    ignored: tuple[Line, ...] = ()
    released: tuple[Line, ...] = ()

    @property
    def to_be_billed(self) -> tuple[Line, ...]:
        """Usage that the next document bills, without bounds."""
        return (*(line for line in self.lines if line.kind == "late_usage"), *self.released)


def late_usage(standing: Standing, totals: Totals) -> LateUsage:
    """The difference of every window already billed, put where its meter's policy wants it.

    Of differences that come to no money nobody is asked. What is in doubt is held whatever the policy is.
    """
    lines: list[Line] = []
    held: list[Line] = []
    ignored: list[Line] = []
    for window, billed in (*_billed(standing), *_first_usage(standing, totals)):
        for line in _differences(standing, window, billed, window.measured(totals)):
            match Hold() if is_in_doubt(line) else standing.late_of(window.item.meter):
                case Hold():
                    (held if line.net else ignored).append(line)
                case IgnoreBelow() as policy if policy.ignores(line.net):
                    ignored.append(line)
                case CreditAndRebill() if billed.quantity or billed.gross:
                    lines += _credit_and_rebill(line, billed)
                case _:
                    lines.append(line)
    waiting = _waiting(standing)
    late = [*lines, *waiting]
    return LateUsage((*lines, *(_late_true_ups(standing, late) if late else ())), tuple(held), tuple(ignored), waiting)


def is_in_doubt(line: Line) -> bool:
    """Whether only a person knows if what a difference of late usage gives back was billed. Its key says so."""
    return line.kind == "late_usage" and line.key.endswith(_IN_DOUBT)


def refuse_to_bill(standing: Standing, line: Line, asked: Iterable[Line]) -> None:
    """Refused if a held line, let go, would give back what was never billed, or would be beyond what all usage came to
    while a contrary question is open. `asked` are the other lines about which no person has decided yet.
    """
    others = [other for other in asked if (other.item, other.period) == (line.item, line.period)]
    if line.net.minor < 0:
        _refuse_what_was_never_billed(standing, line, others)
    _refuse_before_the_contrary(standing, line, others)


def _refuse_before_the_contrary(standing: Standing, line: Line, others: Sequence[Line]) -> None:
    """What would be charged beyond what all usage came to when the line was made may be usage that was taken back, and
    is paid for still; and what is in doubt and would be given back beyond it, usage that came and was never paid for.
    Whether that is given back, or billed, comes first, as nobody has said yet that it is not.
    """
    if first := total([other.net for other in others if _waits_for(standing, line, other, others)], line.net.currency):
        raise Refused(
            f"{-first} already billed for this usage may have to be credited; that question is still open."
            f" Billing {line.net} now would come on top of it."
            if line.net.minor > 0
            else f"{first} of this usage may still have to be billed; that question is still open."
            f" Crediting {-line.net} now would come on top of it.",
            code="asked_before",
            remedy="Answer first what else is asked about the same usage; or `waive`.",
        )


def _waits_for(standing: Standing, line: Line, other: Line, others: Sequence[Line]) -> bool:
    """Whether a line is not let go before the other. Neither waits for one that cannot go, nor for one that waits for
    it.
    """
    after, came_to = _is_billed(standing, line) + line.net, _came_to(standing, line)
    if line.net.minor < 0:
        return other.net.minor > 0 and is_in_doubt(line) and not is_in_doubt(other) and after < came_to
    if other.net.minor > 0 or after <= came_to:
        return False
    return not _is_too_much(standing, other, others) and not _waits_for(standing, other, line, others)


def _refuse_what_was_never_billed(standing: Standing, line: Line, others: Sequence[Line]) -> None:
    """Refused if more would be given back than is billed for the window or on its way to a document: what was waived
    was never billed.

    What is surely to be given back comes first: what is in doubt may not use up what is billed while a question about
    that is open. Usage that comes to less than nothing, such as a price below zero, may be paid out down to what it
    came to when the line was made.
    """
    if _is_too_much(standing, line, others):
        first, is_billed = _surely_first(line, others), _is_billed(standing, line)
        asked_about = f", of which {-first} is certain to be credited; that question is still open" if first else ""
        raise Refused(
            f"It would give back {-line.net}, and {is_billed} is billed for this usage{asked_about}.",
            code="never_billed",
            remedy=f"Answer `waive`{'; or first what else is asked about the same usage' if others else ''}.",
        )


def _is_too_much(standing: Standing, line: Line, others: Sequence[Line]) -> bool:
    """Whether a line gives back more than is billed, less what others surely give back."""
    left = _is_billed(standing, line) + _surely_first(line, others) + line.net
    return left < min(Money.zero(standing.currency), _came_to(standing, line))


def _surely_first(line: Line, others: Sequence[Line]) -> Money:
    """What others surely give back, where the line is in doubt."""
    sure = [one.net for one in others if is_in_doubt(line) and not is_in_doubt(one) and one.net.minor < 0]
    return total(sure, line.net.currency)


def _is_billed(standing: Standing, line: Line) -> Money:
    """For the line's window, on documents or on the way to one."""
    mine = (line.item, line.period)
    waiting = [other.net for other in _waiting(standing) if (other.item, other.period) == mine]
    return total([*(one.net for one in _documented(standing, line)), *waiting], standing.currency)


def _came_to(standing: Standing, line: Line) -> Money:
    """All usage of the line's window, when the line was made."""
    gross = line.gross + Money(line.because.billed_before, line.gross.currency)
    net = gross - share_off(gross, line.because.discount_percent, line.because.ties)
    return net - Money(_off(sum(one.given_off for one in _documented(standing, line)), net), net.currency)


def _documented(standing: Standing, line: Line) -> list[BilledUsage]:
    """What is on documents of the line's window."""
    return [one for one in standing.usage if (one.item, one.period) == (line.item, line.period)]


def _off(given: int, net: Money) -> int:
    """What amounts off that were given take off: no more than there is."""
    return min(given, max(0, net.minor))


def _billed(standing: Standing) -> Iterator[tuple[ItemWindow, BilledUsage]]:
    """Every window that has a line."""
    for billed in standing.usage:
        whole = standing.period_at(billed.period.start)
        for window in usage_windows(standing.history, billed.period, whole):
            if window.item.key == billed.item and window.period == billed.period:
                yield window, billed


def _first_usage(standing: Standing, totals: Totals) -> Iterator[tuple[ItemWindow, BilledUsage]]:
    """Windows in which there was no usage and which therefore have no line yet, with nothing billed.

    Those of which something was held are among them, be all of it void by now.
    """
    mute = {item.key for t in standing.history for item in t.plan.items if item.meter and not item.zero_line}
    if not mute:
        return
    known = {(billed.item, billed.period) for billed in standing.usage}
    held = [line.period.start for line in (*standing.set_aside, *_waiting(standing))]
    for start in sorted({*billed_periods(standing, totals), *(standing.period_at(day).start for day in held)}):
        part = standing.part_at(start)
        for window in usage_windows(standing.history, part, standing.period_at(start)):
            if window.item.key in mute and (window.item.key, window.period) not in known:
                nothing = Money.zero(standing.currency)
                yield window, BilledUsage(window.item.key, window.period, Decimal(0), nothing, nothing, 0)


def billed_periods(standing: Standing, totals: Totals) -> list[date]:
    """The starts of the billed periods in which there may be usage: those with events, or, where the plan has a meter
    that carries over, all.
    """
    through = standing.billed_through("arrears")
    days = {day for _, day in totals if standing.anchor <= day < through}
    found = {standing.period_at(day).start for day in days}
    meters = {meter for terms in standing.history for item in terms.plan.items for meter in item.meters}
    if any(carries_over(totals, meter) for meter in meters):
        day = standing.anchor
        while day < through:
            whole = standing.period_at(day)
            found.add(whole.start)
            day = whole.end
    return sorted(found)


def _waiting(standing: Standing) -> tuple[Line, ...]:
    """Late usage that a person has let go on the next document."""
    return tuple(p.line for p in standing.pending if p.line.kind == "late_usage")


def _set_aside(lines: Iterable[Line], window: ItemWindow) -> tuple[Line, ...]:
    """Those of late usage of the window."""
    mine = (window.item.key, window.period)
    return tuple(line for line in lines if line.kind == "late_usage" and (line.item, line.period) == mine)


def _together(billed: BilledUsage, lines: Sequence[Line]) -> BilledUsage:
    """What was billed and what was held, as if all of it were billed."""
    for line in lines:
        billed = replace(
            billed,
            quantity=added_up([billed.quantity, line.quantity]),
            gross=billed.gross + line.gross,
            net=billed.net + line.net,
            lines=billed.lines + 1,
            amounts_off=billed.amounts_off + line.amounts_off.minor,
        )
    return billed


def _differences(standing: Standing, window: ItemWindow, billed: BilledUsage, used: Measured) -> Iterator[Line]:
    """What a window comes to by now less what was billed and held.

    In doubt is what goes against something that was held, such as usage taken back of which as much was waived: only a
    person knows whether it is what was waived, which must not be paid out. What was billed beyond what all usage of the
    window comes to is in no doubt, whatever is open or was waived of what is in doubt; it is a line of its own.
    """
    aside = _set_aside(standing.set_aside, window)
    released = _set_aside((p.line for p in standing.pending), window)
    before = _together(billed, (*released, *aside))
    whole = _difference(window, used, before, aside)
    if whole is None:
        return
    if whole.net.minor * sum(other.net.minor for other in aside) >= 0:
        yield _numbered(whole, before)
        return
    same_way = (other for other in aside if other.net.minor * whole.net.minor > 0)
    settled = [*released, *(other for other in same_way if not is_in_doubt(other))]
    sure = _difference(window, used, _together(billed, settled), (), money_too=True)
    if sure is None or sure.net.minor * whole.net.minor <= 0:
        yield _numbered(whole, before, _IN_DOUBT)
        return
    yield _numbered(sure, before)
    if rest := _difference(window, used, _together(before, [sure]), aside):
        yield _numbered(rest, before, _IN_DOUBT)


def _numbered(line: Line, before: BilledUsage, suffix: str = "") -> Line:
    """With a key that no other line of the window ever has: their number only grows, and of the two that may have the
    same number one is in doubt.
    """
    return replace(line, key=f"{line.key}/{before.lines}{suffix}")


def _difference(
    window: ItemWindow, used: Measured, before: BilledUsage, aside: Sequence[Line], *, money_too: bool = False
) -> Line | None:
    """The line if the quantity differs; or, where more than the sum counts or `money_too` is said, the amount does.

    Of usage taken back comes back what was paid: an amount off reduces no more than there is left, and again what comes
    after that, up to what was given when the window was first billed. What came is never given back by it.
    """
    only_the_sum = not window.item.apart and not window.item.price.counts_events()
    if used.quantity == before.quantity and only_the_sum and not money_too:
        return None
    line = rate_late_usage(window, used, before.quantity, before.gross, before.net_of_percent)
    off = _off(before.given_off, before.net_of_percent + line.net) - before.amounts_off
    if more := min(off, max(0, line.net.minor)):
        why = "reduces what came again" if more > 0 else "has nothing left to reduce"
        line = with_off(line, Money(more, line.gross.currency), f"amount off that {why}")
    if not line.gross and used.quantity == before.quantity:
        return None
    if held := total([other.net for other in aside], line.gross.currency):
        line = replace(line, because=replace(line.because, note=_was_held(held)))
    return line


def _was_held(net: Money) -> str:
    if net.minor > 0:
        return f"of what counts as billed, {net} was held for a person: asked about, or waived, and never billed"
    return (
        f"of what is billed, {-net} was to be given back and was held for a person: asked about, or waived, and never"
        " given back"
    )


def _credit_and_rebill(line: Line, billed: BilledUsage) -> tuple[Line, Line]:
    """The mirror of all that was billed for the window, and all of it afresh; together what the difference is.

    Amounts off that were given stay given: they move from the lines that are credited to the new one. What was held
    for a person is not billed by this either.
    """
    why = line.because
    label = f"billed for {billed.period}, of which all is given back"
    documents = f" of {' and '.join(billed.invoices)}" if billed.invoices else ""
    name = line.description.removesuffix(" (received after billing)")
    discount = billed.gross - billed.net
    credit = replace(
        line,
        key=f"credit/{line.key}",
        description=f"{name}, credit{documents}",
        gross=-billed.gross,
        discount=-discount,
        because=replace(
            why,
            quantity=-billed.quantity,
            quantity_before=Decimal(0),
            billed_before=0,
            counted=(),
            portions=(),
            portions_left_out=0,
            events=0,
            steps=(Step(billed.gross.major, Decimal(-1), label=label, counts=False),),
            adjustments=(),
            exact=exact(-billed.gross.amount.value),
            taken=_taken(-billed.amounts_off),
            note=CREDITED,
        ),
    )
    afresh = replace(
        line,
        key=f"rebill/{line.key}",
        description=f"{name}, billed again with what was received after billing",
        gross=line.gross + billed.gross,
        discount=line.discount + discount,
        because=replace(
            why,
            quantity_before=added_up([why.quantity_before, -billed.quantity]),
            billed_before=why.billed_before - billed.gross.minor,
            taken=_taken(billed.amounts_off + line.amounts_off.minor),
        ),
    )
    return credit, afresh


def _taken(minor: int) -> tuple[Taken, ...]:
    return (Taken("amounts off, as they were given", minor),) if minor else ()


def _late_true_ups(standing: Standing, late: Sequence[Line]) -> Iterator[Line]:
    """What late usage changes in the plan's bounds of its period, as far back as fees are known."""
    if not asks_of_periods(standing):
        return
    for part in sorted({standing.part_at(line.period.start) for line in late}):
        if part.start <= standing.billed_through("arrears") - FEES_REACH:
            continue
        usage = [billed.net for billed in standing.usage if billed.period.start in part]
        more = [line.net for line in late if line.period.start in part]
        now = spent(standing, part, ()) + total([*usage, *more], standing.currency)
        billed = {one.item: one for one in standing.true_ups if one.period == part and one.item.startswith(PLAN)}
        yield from late_true_ups(standing, part, now, billed)
