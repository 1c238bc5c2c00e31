"""One customer's books in memory: what the rooms around the engine do for a running system, in its simplest form.

Time only moves forward; what has become due (a change on its day, the end) takes effect first, as in the product.
Nothing here computes money: every figure comes from `billing`. After each step the books are proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from billing.accrual import delivered_usage, obligation_id, obligation_of, promises_of, usage_coverage
from billing.amending import Change, Preview, ending_lines, preview, terms_after
from billing.biller import Facts, Occasion, bill
from billing.catalog import Meter
from billing.chart import CONTRACT_POSITION
from billing.credits import Grant
from billing.explain import explain
from billing.folding import Clocks, Folding, portion_of
from billing.ids import derive
from billing.invoice import Invoice
from billing.journal import Entry, Receipt, credits_drawn, invoice_issued, payment_captured, revenue_recognised
from billing.late_usage import refuse_to_bill
from billing.line import Because, Line
from billing.modifiers import Redeemed
from billing.money import Money, total
from billing.period import Interval, Period, instant, local_day
from billing.plan import Plan
from billing.portion import Portion
from billing.proration import BilledFee
from billing.quantity import added_up
from billing.replay import replay, replay_discounts
from billing.revenue import Obligation, earned
from billing.standing import BilledUsage, Lane, PendingLine, Standing
from billing.taxes import Parties, TaxRate
from billing.terms import Terms
from billing.usage import BEFORE, provable


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is signed. `buyer_verified` is about the tax id; `ends_on` an end agreed from the start."""

    anchor: date
    plan: Plan
    seats: Decimal = Decimal(1)
    discount_percent: Decimal = Decimal(0)
    zone: str = "Europe/Berlin"
    seller: str = "DE"
    buyer: str = "DE"
    buyer_verified: bool = False
    payment_terms_days: int = 14
    ends_on: date | None = None
    coupons: tuple[Redeemed, ...] = ()


def signed(agreement: Agreement, name: str = "sub_1") -> Standing:
    """The running subscription on its first day, with nothing billed. All of them are under one contract."""
    plan = agreement.plan
    return Standing(
        subscription_id=name,
        root_id="cus_1",
        customer_id="cus_1",
        contract_id="con_1",
        entity_id="ent_1",
        clock_id=None,
        currency=plan.currency,
        zone_name=agreement.zone,
        anchor=agreement.anchor,
        interval=plan.interval,
        state="active",
        payment_terms_days=agreement.payment_terms_days,
        parties=Parties(agreement.seller, agreement.buyer, agreement.buyer_verified),
        ends_on=agreement.ends_on,
        history=(Terms(1, agreement.anchor, plan, agreement.seats, agreement.discount_percent, agreement.coupons),),
        lanes=(Lane("advance", agreement.anchor), Lane("arrears", agreement.anchor)),
    )


@dataclass(slots=True)
class Books:
    """Subscriptions under one contract as they are now, with usage, credits, promises, documents and the journal.

    Most methods are about the `current` subscription.
    """

    subscriptions: dict[str, Standing]
    current: str = "sub_1"
    rates: Sequence[TaxRate] = ()
    now: datetime = datetime(1900, 1, 1, tzinfo=UTC)
    totals: dict[tuple[str, date], tuple[Portion, ...]] = field(default_factory=dict)
    events: dict[str, list[tuple[datetime, Mapping[str, object]]]] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    bought: dict[str, Grant] = field(default_factory=dict)
    promises: dict[str, Obligation] = field(default_factory=dict)
    recognised: dict[str, Money] = field(default_factory=dict)
    documents: list[Invoice] = field(default_factory=list)
    journal: dict[str, Entry] = field(default_factory=dict)
    scheduled: list[tuple[str, Change]] = field(default_factory=list)
    asked: list[Line] = field(default_factory=list)

    @property
    def standing(self) -> Standing:
        return self.subscriptions[self.current]

    @standing.setter
    def standing(self, changed: Standing) -> None:
        self.subscriptions[self.current] = changed

    def use(self, meter: str, day: date, quantity: Decimal) -> None:
        self.put(meter, day, Portion(quantity))

    def put(self, meter: str, day: date, portion: Portion) -> None:
        self.totals[meter, day] = (*self.totals.get((meter, day), ()), portion)

    def count(self, meter: Meter, events: Iterable[tuple[datetime, Mapping[str, object]]]) -> None:
        """Fold further events of a meter, as the product does, from all that came so far."""
        mine = self.events.setdefault(meter.meter_id, [])
        mine.extend(events)
        folding = Folding([meter], Clocks())
        for moment, data in sorted(mine, key=lambda event: event[0]):
            folding.add("cus_1", self.standing.zone, meter.event_type, moment, data)
        for key in [key for key in self.totals if key[0] == meter.meter_id]:
            del self.totals[key]
        if meter.carries:
            self.totals[meter.meter_id, BEFORE] = ()
        for (_, name, day, named, each), found in folding.days().items():
            self.put(name, day, portion_of(meter, self.standing.zone_name, named, each, found))

    def bill(self, at: datetime) -> Invoice | None:
        """Bill, twice with the same answer, and write it down; then there is nothing left to bill."""
        self.move_to(at)
        facts, occasion = self.facts(), Occasion(at, local_day(at, self.standing.zone))
        done = bill(self.standing, facts, occasion)
        assert bill(self.standing, facts, occasion) == done
        if done.invoice:
            self._write_down(done.invoice)
        aside = (*self.standing.set_aside, *done.held)
        assert len({line.key for line in aside}) == len(aside)
        self.asked += done.held
        self.standing = replace(self.standing, lanes=done.lanes, pending=(), set_aside=aside)
        again = bill(self.standing, self.facts(), occasion)
        assert (again.invoice, again.lanes, again.held) == (None, done.lanes, ())
        self.prove()
        return done.invoice

    def amend(self, at: datetime, change: Change) -> Preview:
        """Preview, then do it: now, or on its day when time gets there."""
        self.move_to(at)
        seen = preview(self.standing, change, at)
        if change.effective_on > local_day(at, self.standing.zone):
            self.scheduled.append((self.current, change))
        else:
            self._apply(change, at)
        return seen

    def cancel(self, at: datetime, ends_on: date) -> None:
        self.move_to(at)
        self.standing = replace(self.standing, ends_on=ends_on)
        self.move_to(at)

    def withdraw(self, at: datetime) -> None:
        self.move_to(at)
        assert self.standing.state == "active", "too late"
        self.standing = replace(self.standing, ends_on=None)

    def move_to(self, at: datetime) -> None:
        """Let take effect what is due by `at`, oldest first."""
        assert at >= self.now, "time only moves forward"
        here = self.current
        for name in self.subscriptions:
            self.current = name
            self._settle(at)
        self.current, self.now = here, at

    def _settle(self, at: datetime) -> None:
        where = self.standing.zone
        for name, change in sorted(self.scheduled, key=lambda waiting: waiting[1].effective_on):
            if name == self.current and instant(change.effective_on, where) <= at:
                self.scheduled.remove((name, change))
                self._apply(change, instant(change.effective_on, where))
        ends_on = self.standing.ends_on
        if ends_on is not None and self.standing.state == "active" and instant(ends_on, where) <= at:
            self._remember(ending_lines(self.standing, ends_on, f"can_{self.current}"))
            self.standing = replace(self.standing, state="ended")

    def buy_credits(self, amount: Money, day: date) -> None:
        """Prepaid credits for the next invoice; usable when that is paid."""
        line = Line(
            key=f"credits/{len(self.bought) + 1}",
            kind="credit_purchase",
            item="credits",
            description="Prepaid credit",
            period=Period(day, day),
            gross=amount,
            discount=Money.zero(amount.currency),
            revenue="one_time",
            because=Because(1, "", 0, "flat", Decimal(1)),
        )
        self.standing = replace(self.standing, pending=(*self.standing.pending, PendingLine(f"pnd_{line.key}", line)))

    def answer(self, billed: bool) -> Line:
        """Decide about the oldest question that is open: a waived line stays set aside."""
        line = self.asked[0]
        if billed:
            refuse_to_bill(self.standing, line, self.asked[1:])
            aside = tuple(other for other in self.standing.set_aside if other is not line)
            pending = (*self.standing.pending, PendingLine(derive("pnd", line.key), line))
            self.standing = replace(self.standing, set_aside=aside, pending=pending)
        self.asked.pop(0)
        self.prove()
        return line

    def pay(self, at: datetime) -> Money:
        """Capture what is open on every invoice."""
        self.move_to(at)
        paid = Money.zero(self.standing.currency)
        for document in self.documents:
            head = document.heading
            open_ = self.open_on(head.invoice_id)
            if open_.minor > 0:
                day = local_day(at, self.standing.zone)
                self._post(
                    payment_captured(
                        Receipt(
                            derive("att", head.invoice_id),
                            head.entity_id,
                            head.customer_id,
                            head.contract_id,
                            head.invoice_id,
                            open_,
                            day,
                        )
                    )
                )
                paid = paid + open_
            if head.invoice_id in self.bought:
                self.grants.append(self.bought.pop(head.invoice_id))
        self.prove()
        return paid

    def recognise(self, through: date) -> Entry | None:
        """Post what should be earned by `through` and is not; doing it again posts nothing."""
        entry = self._recognise(through)
        assert self._recognise(through) is None
        self.prove()
        return entry

    # What a reader of the books may ask.

    def facts(self) -> Facts:
        return Facts(dict(self.totals), self.rates, tuple(self.grants))

    def balance(self, account: str) -> Money:
        """Debits less credits."""
        postings = [p for e in self.journal.values() for p in e.postings if p.account == account]
        signed_amounts = [p.amount if p.side == "D" else -p.amount for p in postings]
        return total(signed_amounts, self.standing.currency)

    def open_on(self, invoice_id: str) -> Money:
        postings = [p for e in self.journal.values() for p in e.postings if p.account == "1100"]
        mine = [p.amount if p.side == "D" else -p.amount for p in postings if p.invoice_id == invoice_id]
        return total(mine, self.standing.currency)

    def prove(self) -> None:
        """Every entry balances; position is billed less earned; tax, wallet and usage agree with the documents."""
        nothing = Money.zero(self.standing.currency)
        for entry in self.journal.values():
            sides = [p.amount if p.side == "D" else -p.amount for p in entry.postings]
            assert total(sides, nothing.currency) == nothing, entry
            assert all(p.amount.minor > 0 for p in entry.postings), entry
        lines = [line for d in self.documents for line in d.lines if line.taxable]
        earned_so_far = total(list(self.recognised.values()), nothing.currency)
        assert -self.balance("1200") == total([line.net for line in lines], nothing.currency) - earned_so_far
        assert -self.balance("2400") == total([d.tax for d in self.documents], nothing.currency)
        left = [g.remaining for g in (*self.grants, *self.bought.values())]
        assert -self.balance("2100") == total(left, nothing.currency)
        folded: dict[str, Decimal] = {}
        for (meter, _), portions in self.totals.items():
            folded[meter] = added_up([folded.get(meter, Decimal(0)), provable(portions)])
        covered = usage_coverage(list(self.subscriptions.values()), self.totals)
        assert {m: covered.get(m, Decimal(0)) for m in folded} == folded, "usage is billed, unbilled or not billable"

    # How things are written down.

    def _apply(self, change: Change, at: datetime) -> None:
        seen = preview(self.standing, change, at)
        after = terms_after(self.standing, change)
        self._remember(seen.lines)
        self.standing = replace(self.standing, history=(*self.standing.history, after))

    def _remember(self, lines: Sequence[Line]) -> None:
        waiting = [PendingLine(derive("pnd", line.key), line) for line in lines]
        pending = (*self.standing.pending, *waiting)
        assert len({p.pending_id for p in pending}) == len(pending)
        self.standing = replace(self.standing, pending=pending)
        for line in lines:
            promise = obligation_of(self.standing.subscription_id, line)
            self.promises.setdefault(promise.obligation_id, promise)

    def _write_down(self, document: Invoice) -> None:
        head, standing = document.heading, self.standing
        assert head.invoice_id not in {d.heading.invoice_id for d in self.documents}
        assert len({line.key for line in document.lines}) == len(document.lines)
        for line in document.lines:
            assert replay(line, standing) is None, line
            assert explain(line.because, line.gross, line.discount)
        assert not replay_discounts(document.lines, standing)
        for promise in promises_of(standing, document.lines):
            if promise.pattern == "delivered":
                self.promises[promise.obligation_id] = promise
            self.promises.setdefault(promise.obligation_id, promise)
        fees, usage = list(standing.fees), {(u.item, u.period): u for u in standing.usage}
        true_ups = {(u.item, u.period): u for u in standing.true_ups}
        for line in document.lines:
            if line.kind in ("recurring", "proration"):
                fees.append(BilledFee.of(line))
            elif line.kind in ("usage", "late_usage"):
                b = usage.get((line.item, line.period))
                usage[line.item, line.period] = _with(line, b, line.quantity)
            elif line.kind == "true_up":
                b = true_ups.get((line.item, line.period))
                true_ups[line.item, line.period] = _with(line, b, Decimal(0))
            elif line.kind == "credit_purchase":
                self.bought[head.invoice_id] = Grant(derive("cg", line.key), line.net, 0, head.issued_at)
        known = {"usage": tuple(usage.values()), "true_ups": tuple(true_ups.values())}
        self.standing = replace(standing, fees=tuple(fees), **known)
        drawn = {d.grant_id: d.amount for d in document.draws}
        self.grants = [
            replace(g, remaining=g.remaining - drawn[g.grant_id]) if g.grant_id in drawn else g for g in self.grants
        ]
        self.documents.append(document)
        line_ids = [derive("il", head.invoice_id, line.key) for line in document.lines]
        promised = [obligation_id(head.subscription_id, x) if x.taxable else None for x in document.lines]
        self._post(invoice_issued(document, line_ids, promised))
        drawing = credits_drawn(document)
        if drawing:
            self._post(drawing)

    def _post(self, entry: Entry) -> None:
        assert entry.entry_id not in self.journal, f"{entry.cause_kind} {entry.cause_id} was posted before"
        self.journal[entry.entry_id] = entry

    def _recognise(self, through: date) -> Entry | None:
        found = [o for s in self.subscriptions.values() for o in delivered_usage(s, self.totals, through)]
        assert len({o.obligation_id for o in found}) == len(found), "one promise measured twice"
        for promise in found:
            self.promises[promise.obligation_id] = promise
        nothing = Money.zero(self.standing.currency)
        begun = [p for p in self.promises.values() if p.period.start <= through]
        missing = [
            (p, difference)
            for p in begun
            if (difference := earned(p, through) - self.recognised.get(p.obligation_id, nothing))
        ]
        if not missing:
            return None
        s = self.standing
        recognised = [e for e in self.journal.values() if (e.cause_kind, e.posted_on) == ("recognition", through)]
        earlier = sum(p.account == CONTRACT_POSITION.number for e in recognised for p in e.postings)
        entry = revenue_recognised(s.entity_id, s.contract_id, s.customer_id, missing, through, earlier)
        self._post(entry)
        for promise, difference in missing:
            self.recognised[promise.obligation_id] = self.recognised.get(promise.obligation_id, nothing) + difference
        return entry


def _with(line: Line, before: BilledUsage | None, quantity: Decimal) -> BilledUsage:
    """What a window's lines come to with one more line."""
    if before is None:
        off = line.amounts_off.minor
        given = off if line.kind == "usage" else 0
        return BilledUsage(line.item, line.period, quantity, line.gross, line.net, 1, off, given)
    return BilledUsage(
        line.item,
        line.period,
        added_up([quantity, before.quantity]),
        line.gross + before.gross,
        line.net + before.net,
        before.lines + 1,
        line.amounts_off.minor + before.amounts_off,
        before.given_off,
    )


def plan_of(currency: str, *items: object, interval: Interval | None = None) -> Plan:
    """A plan of those `PlanItem`s."""
    return Plan("pro", 1, "Pro", currency, tuple(items), interval or Interval())  # type: ignore[arg-type]


def midnight(standing: Standing, day: date) -> datetime:
    """The moment at which `day` begins for the customer."""
    return instant(day, standing.zone)


def next_day(day: date) -> date:
    return day + timedelta(days=1)
