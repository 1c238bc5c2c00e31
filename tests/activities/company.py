"""A legal entity on a clock of its own, its customers, and the hands that work for it, called as plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self

from psycopg import sql as parts
from sqlalchemy import Engine

from activities.billing import BillBatch, Billed, Billing, BillOne, OpenRun, Run
from activities.closing import Approval, Closing, Month, Proof
from activities.lifecycle import Answer, Lifecycle
from activities.payments import ChargeRun, Payments
from billing.plan import Plan
from integrations.erp.pretend import PretendErp
from integrations.payments.pretend import PretendGateway
from models.amendment import Amendment, Cancellation
from models.catalog import Meter, plan, publish
from models.closing import plan_close, tie_outs
from models.customer import Customer, PaymentMethod, add_customer
from models.database import cursor, transaction
from models.entity import InvoiceSeries, LegalEntity, TestClock, add_entity
from models.event import Event
from models.intake import receive
from models.signing import Agreement, sign
from models.transfer import BankTransfer, receive_transfer
from models.values import read

TEAM = {
    "name": "Team",
    "currency": "EUR",
    "items": [
        {"key": "base", "name": "Base", "price": {"kind": "flat", "amount": "100"}},
        {"key": "seats", "name": "Seats", "basis": "seats", "price": {"kind": "per_unit", "rate": "10"}},
        {
            "key": "tokens",
            "name": "Tokens",
            "basis": "meter",
            "meter": "tokens",
            "price": {"kind": "per_unit", "rate": "0.01"},
        },
    ],
}
BIGGER = {**TEAM, "items": [{**TEAM["items"][0], "price": {"kind": "flat", "amount": "200"}}, *TEAM["items"][1:]]}  # type: ignore[dict-item, index]
FEE_ONLY = {**TEAM, "items": TEAM["items"][:1]}  # type: ignore[index]
USAGE_ONLY = {**TEAM, "items": TEAM["items"][2:]}  # type: ignore[index]


@dataclass(frozen=True)
class Company:
    """`acme` keeps books in EUR from January 2026 on, in Berlin. All moments are UTC; its clock starts in December."""

    engine: Engine
    gateway: PretendGateway
    erp: PretendErp
    entity: str = "acme"

    @classmethod
    def founded(cls, engine: Engine) -> Self:
        now = datetime(2025, 12, 20, 9, tzinfo=UTC)
        with transaction(engine) as session:
            session.add(Meter(id="tokens", name="Tokens", event_type="llm", quantity_field="n", unit="tokens"))
            session.flush()
            for name, content in [("team", TEAM), ("bigger", BIGGER), ("fee", FEE_ONLY), ("usage", USAGE_ONLY)]:
                publish(session, read(Plan, {"plan_id": name, "version": 1, **content}), now)
        found = cls(engine, PretendGateway(), PretendErp())
        found.open_entity(now)
        return found

    def open_entity(self, now: datetime) -> None:
        with transaction(self.engine) as session:
            session.add(TestClock(id=f"clock-{self.entity}", now_at=now, target_at=now))
            session.flush()
            row = LegalEntity(
                id=self.entity,
                name=self.entity,
                country="DE",
                functional_currency="EUR",
                time_zone="Europe/Berlin",
                address="",
                email="",
                clock_id=f"clock-{self.entity}",
            )
            add_entity(session, row)
            prefix = self.entity.upper()
            session.add(InvoiceSeries(entity_id=row.id, kind="invoice", prefix=f"{prefix}-"))
            session.add(InvoiceSeries(entity_id=row.id, kind="credit_note", prefix=f"{prefix}-CN-"))
            plan_close(session, row, date(2026, 1, 1))

    def sister(self, name: str) -> Company:
        """Another legal entity of the same company, on another clock."""
        other = replace(self, entity=name)
        other.open_entity(datetime(2025, 12, 20, 9, tzinfo=UTC))
        return other

    @property
    def billing(self) -> Billing:
        return Billing(self.engine)

    @property
    def closing(self) -> Closing:
        return Closing(self.engine, "pretend", self.erp)

    @property
    def lifecycle(self) -> Lifecycle:
        return Lifecycle(self.engine)

    # What people do.

    def customer(self, name: str, country: str = "DE", *, card: bool = True, vat_id: bool = False) -> None:
        now = self.now()
        with transaction(self.engine) as session:
            row = Customer(
                id=name,
                root_id=name,
                name=name,
                email="",
                country=country,
                time_zone="Europe/Berlin",
                address="",
                vat_id_verified_on=date(2026, 1, 1) if vat_id else None,
                created_at=now,
            )
            add_customer(session, row, [])
            if card:
                session.add(PaymentMethod(customer_id=name, gateway="pretend", token="card", added_at=now))

    def sign(self, customer: str, plan_id: str = "team", starts_on: date = date(2026, 1, 1), **more: Any) -> str:
        """A subscription `sub-{customer}` of one seat unless said otherwise; returns its id."""
        key = more.pop("subscription_id", f"sub-{customer}")
        with transaction(self.engine) as session:
            agreed = Agreement(
                contract_id=f"con-{key}",
                subscription_id=key,
                customer_id=customer,
                entity_id=self.entity,
                plan=plan(session, plan_id, more.pop("plan_version", None)),
                seats=more.pop("seats", Decimal(1)),
                starts_on=starts_on,
                **more,
            )
            return sign(session, agreed, self.now()).id

    def amend(self, name: str, subscription_id: str, on: date, plan_id: str = "team", seats: int = 1) -> Answer:
        with transaction(self.engine) as session:
            session.add(
                Amendment(
                    id=name,
                    subscription_id=subscription_id,
                    effective_on=on,
                    plan_id=plan_id,
                    plan_version=1,
                    seats=Decimal(seats),
                    discount_percent=Decimal(0),
                    requested_by="test",
                    requested_at=self.now(),
                )
            )
        return self.lifecycle.amend(name)

    def cancel(self, name: str, subscription_id: str, on: date) -> Answer:
        with transaction(self.engine) as session:
            session.add(
                Cancellation(
                    id=name,
                    subscription_id=subscription_id,
                    effective_on=on,
                    reason="test",
                    requested_by="test",
                    requested_at=self.now(),
                )
            )
        return self.lifecycle.cancel(name)

    def use(self, customer: str, day: str, n: int | Decimal, name: str = "") -> None:
        """Tokens used at noon of a day."""
        at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        with transaction(self.engine) as session:
            receive(session, [Event("s", name or f"{customer}{day}", customer, "llm", at, {"n": n})])

    # What time brings.

    def now(self) -> datetime:
        with transaction(self.engine) as session:
            return session.get_one(TestClock, f"clock-{self.entity}").now_at

    def set_clock(self, to: datetime) -> None:
        self.sql("update test_clock set now_at = %s, target_at = %s where id = %s", to, to, f"clock-{self.entity}")

    def live(self, to: str) -> None:
        """Every due moment of subscriptions and billing up to the morning of a day, one after the other."""
        until = datetime.fromisoformat(f"{to}T06:00:00+00:00")
        while True:
            [(moment,)] = self.sql(
                "select least((select min(due_at) from agenda where entity_id = %s and kind in"
                " ('activate', 'amendment', 'end') and done_at is null and due_at <= %s),"
                " (select min(next_bill_at) from billing_lane l join subscription s on s.id = l.subscription_id"
                " where l.entity_id = %s and l.next_bill_at <= %s and not exists (select from task t"
                " where t.subject = 'billing/' || s.root_id and t.answered_at is null)))",
                self.entity,
                until,
                self.entity,
                until,
            )
            self.set_clock(max(self.now(), moment or until))
            if moment is None:
                return
            for (subject,) in self.sql(
                "select distinct subject from agenda where entity_id = %s and done_at is null and due_at <= %s"
                " and subject like 'subscription/%%' order by 1",
                self.entity,
                self.now(),
            ):
                self.lifecycle.look(subject.removeprefix("subscription/"))
            self.run()

    def run(self) -> Billed:
        """A whole billing run of now, cards included."""
        done = self.bill()
        payments = Payments(self.engine, "pretend", self.gateway)
        while payments.charge_run(ChargeRun(done.run_id)).more:
            pass
        return done

    def bill(self) -> Billed:
        run = self.billing.open_run(OpenRun(self.entity))
        return self.bill_run(run)

    def bill_run(self, run: Run) -> Billed:
        bounds = [*run.batches, ""]
        done = [
            self.billing.bill_batch(BillBatch(run.run_id, run.first_no + no, bounds[no], bounds[no + 1]))
            for no in range(len(run.batches))
        ]
        return Billed(
            run.run_id, sum(d.invoices for d in done), sum(d.total_minor for d in done), sum(d.parked for d in done)
        )

    def bill_one(self, subscription_id: str, cause: str) -> Billed:
        return self.billing.bill_one(BillOne(subscription_id, cause))

    def transfer(self, name: str, invoice_id: str, minor: int, on: str) -> BankTransfer:
        """So much came to the bank for that invoice."""
        day = date.fromisoformat(on)
        with transaction(self.engine) as session:
            came = BankTransfer(
                id=name, invoice_id=invoice_id, amount_minor=minor, currency="EUR", received_on=day, by_key="test"
            )
            return receive_transfer(session, came)

    # The close.

    def month(self, text: str) -> Month:
        return Month(self.entity, date.fromisoformat(f"{text}-01"))

    def prove(self, month: str) -> Proof:
        """Cut off, recognise and tie out, on the clock's day."""
        which = self.month(month)
        assert self.closing.begin(which).stage
        self.closing.check_billed(which)
        self.closing.recognise(which)
        return self.closing.prove(which)

    def lock(self, month: str) -> None:
        which = self.month(month)
        self.closing.await_approval(which)
        self.closing.approve(Approval(which, "Carla"))
        self.closing.post_to_erp(which)
        self.closing.lock(which)

    def differences(self, month: str) -> dict[str, list[tuple[str, Decimal, Decimal]]]:
        """Prove again: the names of tie-outs that do not hold, each with its items."""
        which = self.month(month)
        self.closing.prove(which)
        with transaction(self.engine) as session:
            found = tie_outs(session, self.entity, which.month)
        return {t.name: [(i.what, i.left, i.right) for i in t.items] for t in found if not t.holds}

    # What is in the tables.

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with transaction(self.engine) as session:
            done = cursor(session).execute(statement, parameters or None)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    @contextmanager
    def tampering(self) -> Any:
        """Statements past every rule of the database, as by somebody with its password."""
        with transaction(self.engine) as session:
            cur = cursor(session)
            cur.execute("set local session_replication_role = replica")
            yield lambda statement, *values: cur.execute(parts.SQL(statement), values or None)

    def invoices(self) -> list[tuple[str, int]]:
        """Number and net amount, in the order of numbers."""
        return self.sql(
            "select n.number, i.net_minor from invoice i join invoice_number n on n.invoice_id = i.id order by 1"
        )

    def balance(self, account: str) -> int:
        """Debits less credits, from the lines."""
        [(minor,)] = self.sql(
            "select coalesce(sum(case side when 'D' then amount_minor else -amount_minor end), 0)::bigint"
            " from journal_line where entity_id = %s and account = %s",
            self.entity,
            account,
        )
        return int(minor)

    def open_tasks(self) -> list[tuple[str, str]]:
        return self.sql("select subject, reason from task where answered_at is null order by 1")

    def answer_tasks(self) -> None:
        self.sql("update task set answered_at = now(), answered_by = 'Carla', answer = 'mended'")

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        return {table: self.sql(f"select count(*) from {table}")[0][0] for table in tables}
