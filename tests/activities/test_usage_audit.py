"""Random traffic, corrections and bills: after each step the audit adds up, and the digests are those of the events."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from billing.usage_proof import MODULUS
from models import usage_check
from models.audit import Audit, audit
from models.catalog import live_meters
from models.correction import Correction, correct
from models.customer import add_customer, customer
from models.database import cursor, transaction
from models.discard import discard_named
from models.event import Event, Named, digest_of
from models.intake import receive, replay
from models.usage import events_folded
from tests.activities.company import Company

JANUARY, MARCH = date(2026, 1, 1), date(2026, 3, 1)


@dataclass
class Anna:
    """A customer, what was sent for her, and what should have become of it."""

    company: Company
    name: str
    known: bool = False
    billed: bool = False
    accepted: list[Event] = field(default_factory=list)
    late: int = 0
    duplicate: int = 0
    of_nobody_yet: int = 0
    """So many came again before their customer was known."""
    conflict: int = 0
    waiting: list[Event] = field(default_factory=list)
    discarded: list[Event] = field(default_factory=list)
    void: dict[str, bool] = field(default_factory=dict)
    """By id, and whether another event counts instead."""

    def event(self, dice: int, subject: str = "") -> Event:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=37 * (dice % 2200))
        data: dict[str, object] = {} if dice % 5 == 0 else {"n": dice % 7}
        return Event(self.name, secrets.token_hex(8), subject or self.name, "llm", at, data)

    def send(self, events: Sequence[Event]) -> list[str]:
        with transaction(self.company.engine) as session:
            return [outcome.kind for outcome in receive(session, events)]

    # The steps. Each takes a number that decides what is left open.

    def fresh(self, dice: int) -> None:
        events = [self.event(dice + no) for no in range(1 + dice % 4)]
        if self.known:
            events[0] = replace(events[0], subject=f"{self.name}-too")
        assert self.send(events) == ["accepted"] * len(events)
        self._take(events)

    def _take(self, events: Sequence[Event]) -> None:
        self.accepted += events
        self.late += len(events) if self.billed else 0

    def again(self, dice: int) -> None:
        if self.accepted:
            assert self.send([self.accepted[dice % len(self.accepted)]]) == ["duplicate"]
            self.duplicate += 1

    def other_content(self, dice: int) -> None:
        """It counts for the day that it says it is of."""
        if self.accepted:
            one = self.accepted[dice % len(self.accepted)]
            assert self.send([replace(one, data={"n": 1000})]) == ["conflict"]
            self.conflict += 1

    def stray(self, dice: int) -> None:
        one = self.event(dice, f"{self.name}-too")
        if self.known:
            assert self.send([one]) == ["accepted"]
            self._take([one])
        else:
            assert self.send([one, replace(one)]) == ["quarantined", "duplicate"]
            self.waiting.append(one)
            self.of_nobody_yet += 1

    def adopt(self, dice: int) -> None:
        with transaction(self.company.engine) as session:
            add_customer(session, customer(session, self.name), [f"{self.name}-too"])
        self.known = True
        self.duplicate, self.of_nobody_yet = self.duplicate + self.of_nobody_yet, 0

    def send_again(self, dice: int) -> None:
        with transaction(self.company.engine) as session:
            replay(session, f"{self.name}-too", 100)
        if self.known:
            self._take(self.waiting)
            self.waiting = []

    def discard(self, dice: int) -> None:
        """One that waits; then it comes again."""
        if not self.waiting:
            return
        one = self.waiting.pop(dice % len(self.waiting))
        with transaction(self.company.engine) as session:
            assert discard_named(session, [(one.source, one.id)], "junk", "key") == 1
        self.discarded.append(one)
        assert self.send([one]) == ["duplicate"]
        if self.known:
            self.duplicate += 1
        else:
            self.of_nobody_yet += 1

    def correct(self, dice: int) -> None:
        counting = [e for e in self.accepted if e.id not in self.void]
        if not counting:
            return
        wrong = counting[dice % len(counting)]
        instead = self.event(dice) if dice % 2 else None
        with transaction(self.company.engine) as session:
            correct(session, [Correction(wrong.source, wrong.id, "wrong", instead)], "key")
        self.void[wrong.id] = instead is not None
        self._take([instead] if instead else [])

    def bill(self, dice: int) -> None:
        """January and February, the first time; and what is late, every time."""
        self.company.lifecycle.look(f"sub-{self.name}")
        self.company.bill()
        self.billed = True

    # What must hold.

    def expected(self) -> Audit:
        counted = sum("n" in e.data for e in self.accepted if e.id not in self.void)
        waiting, discarded = (len(self.waiting), len(self.discarded)) if self.known else (0, 0)
        amended = sum(self.void.values())
        return Audit(
            received=len(self.accepted) + self.duplicate + self.conflict + waiting + discarded,
            accepted=len(self.accepted),
            duplicate=self.duplicate,
            conflict=self.conflict,
            quarantined=waiting,
            discarded=discarded,
            amended=amended,
            voided=len(self.void) - amended,
            stored=len(self.accepted),
            late=self.late,
            counted=counted,
            uncounted=len(self.accepted) - len(self.void) - counted,
        )

    def check(self) -> None:
        counting = [Named.of(e) for e in self.accepted if e.id not in self.void and "n" in e.data]
        with transaction(self.company.engine) as session:
            [tokens] = live_meters(session)
            told = audit(session, self.name, tokens, JANUARY, MARCH)
            of_totals = "select coalesce(sum(digest), 0), coalesce(sum(quantity), 0) from usage_total"
            [(digest, quantity)] = cursor(session).execute(f"{of_totals} where customer_id = %s", (self.name,))
            folded = events_folded(session, [self.name]).get(f"{self.name} tokens", 0)
            invoices = cursor(session).execute("select id from invoice where customer_id = %s", (self.name,)).fetchall()
            proved = [one for (key,) in invoices for one in usage_check.check(session, key)]
        assert told == self.expected()
        assert told.received == told.accepted + told.duplicate + told.conflict + told.quarantined + told.discarded
        assert told.accepted == told.counted + told.uncounted + told.amended + told.voided
        assert int(digest) == sum(digest_of(one.key, one.content) for one in counting)
        assert quantity == folded == sum(int(str(one.event.data["n"])) for one in counting)
        assert {one.verdict for one in proved} <= {"holds"}
        assert bool(proved) == self.billed
        now = {one.signed.first_day: one.now for one in proved}
        if self.billed:
            behind = [found for found in now.values() if found]
            assert (sum(found.events for found in behind), sum(found.digest for found in behind) % MODULUS) == (
                len(counting),
                int(digest) % MODULUS,
            )


STEPS = [
    Anna.fresh,
    Anna.again,
    Anna.other_content,
    Anna.stray,
    Anna.adopt,
    Anna.send_again,
    Anna.discard,
    Anna.correct,
    Anna.bill,
]


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 10_000)), min_size=3, max_size=14))
def test_figures_add_up_whatever_happens(company: Company, steps: list[tuple[object, int]]) -> None:
    """Each example has a customer of its own; all of January and February lie behind."""
    company.set_clock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    anna = Anna(company, f"anna-{secrets.token_hex(4)}")
    company.customer(anna.name, card=False)
    company.sign(anna.name, "usage")
    anna.fresh(1)
    anna.check()
    for step, dice in steps:
        step(anna, dice)  # type: ignore[operator]
        anna.check()
