"""One customer's month, lived through the public doors: Salesforce, the API, Stripe's sandbox and a test clock.

The story is told as it happens. Every figure printed was read back from the API; nothing is computed here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape

from sandbox import show
from sandbox.door import Door, Json
from sandbox.process import StartFailed
from sandbox.salesforce.seed import salesperson, sign_deal
from sandbox.scenario import Scenario, built_in, from_traces
from sandbox.stack import Stack
from sandbox.trace import events, sent_before
from sandbox.up import ignore_signals, one_interrupt

PATIENCE_SECONDS = 180  # A step whose worker was killed is taken up when its time is over: half a minute, for some.
FIRST_CARD = ["succeeded", "insufficient_funds", "processing_then_succeeded"]


def demo(folder: Path, traces: Sequence[Path], *, stay: bool = False) -> int:
    """Start a clean stack, live the month, show the results. The exit code."""
    console = Console(highlight=False, width=110 if not sys.stdout.isatty() else None)
    try:
        scenario = from_traces(traces) if traces else built_in()
    except (OSError, ValueError) as error:
        console.print(f"[bold red]The trace cannot be used[/]: {escape(str(error))}", soft_wrap=True)
        return 2
    with one_interrupt():
        try:
            with Stack(folder, keep=False, on_step=lambda name, detail: _starting(console, name, detail)) as stack:
                month = Month(console, stack, scenario)
                month.live()
                if stay:
                    console.print(f"  The key            {month.key}\n\nRunning on. Ctrl-C stops it.", soft_wrap=True)
                    while not stack.dead():
                        time.sleep(0.5)
                else:
                    console.print("  These answer while it runs: `.venv/bin/perennial demo --stay`.")
                ignore_signals()
        except KeyboardInterrupt:
            console.print("\nStopped.")
        except StartFailed as failure:
            console.print(f"[bold red]{escape(failure.name)}[/]: {escape(failure.reason)}\n{escape(failure.log)}")
            return 1
    return 0


def _starting(console: Console, name: str, detail: str) -> None:
    if detail != "starting":
        console.print(f"  [dim]{escape(name):<12} {escape(detail)}[/]", soft_wrap=True)


class Month:
    """The steps of the story, in order."""

    def __init__(self, console: Console, stack: Stack, scenario: Scenario) -> None:
        self.console = console
        self.stack = stack
        self.scenario = scenario
        self.key = _key(stack)
        self.door = Door(stack.addresses.api_url, self.key)
        self.subscription = ""
        self.customer = ""
        self.entity = scenario.entity["id"]
        self.zone = ZoneInfo(scenario.entity["time_zone"])

    def live(self) -> None:
        """From the signed deal to the closed month."""
        with closing(self.door):
            self._prepare()
            self._sign()
            self._first_invoice()
            self._use(until=self.scenario.day(16), part="first half")
            self._upgrade()
            self._use(until=self.scenario.next_month, part="second half")
            self._bill()
            self._collect()
            self._cancel()
            self._close()
            self._results()

    def _prepare(self) -> None:
        self._say("Price list", "A test clock, a legal entity, two meters and the plans, through the API.")
        s = self.scenario
        start = datetime(s.month.year, s.month.month, 1, 9, tzinfo=UTC) - timedelta(days=3)
        self.door.post("/v1/test-clocks", {"id": "demo", "now": start.isoformat()})
        self.door.post("/v1/entities", {**s.entity, "clock": "demo", "books_from": s.month.isoformat()})
        for meter in s.meters:
            self.door.post("/v1/meters", meter)
        for plan_id, plan in s.plans.items():
            self.door.put(f"/v1/plans/{plan_id}", plan)
            self.console.print(f"  plan [bold]{plan_id}[/]: {plan['name']}, {plan['currency']}")

    def _sign(self) -> None:
        s = self.scenario
        self._say("Signed deal", f"{s.deal['account_name']} becomes Closed Won in Salesforce.")
        folder = self.stack.folder / "salesforce"
        client = salesperson(
            self.stack.addresses.salesforce_url.removeprefix("https://"),
            folder / "ca.pem",
            (folder / "connected_app.pem").read_text(),
        )
        with closing(client.session):
            deal = sign_deal(client, **s.deal)
        self.door.post("/v1/crm/intake", {})
        found = self._until(lambda: self.door.get("/v1/subscriptions"), "the deal to arrive")
        self.subscription, self.customer = found[0]["id"], found[0]["customer_id"]
        self.console.print(f"  opportunity {deal} is subscription {self.subscription}, state {found[0]['state']}")
        back = self._until(lambda: self._written_back(deal), "the write-back")
        self.console.print(f"  written back to Salesforce: {back}")
        self.door.put(f"/v1/customers/{self.customer}/payment-method", {"gateway": "stripe", "token": "pm_card_visa"})
        self.door.post(f"/v1/customers/{self.customer}/aliases", {"alias": s.alias})
        outcomes = {"customer": self.customer, "outcomes": FIRST_CARD}
        self.door.elsewhere(f"{self.stack.addresses.stripe_url}/_sandbox/outcomes", outcomes)
        for other in s.others:
            self.door.post("/v1/customers", other["customer"])
            self.door.post("/v1/subscriptions", other["subscription"])
            self.console.print(f"  and directly through the API: {other['customer']['name']}")

    def _written_back(self, deal: str) -> str:
        records = self.door.read(f"{self.stack.addresses.salesforce_url}/_sandbox/records/Opportunity", self.stack)
        mine = next(r for r in records if r["Id"] == deal)
        done = mine["Perennial_Subscription__c"] == self.subscription
        return f"{mine['Perennial_Subscription__c']}, {mine['Perennial_Status__c']}" if done else ""

    def _first_invoice(self) -> None:
        self._advance(datetime.combine(self.scenario.month, datetime.min.time(), UTC) + timedelta(hours=9))
        self._say("First day", "The subscription activates; fees in advance and prepaid credit are billed and paid.")
        show.invoice(self.console, self.door, self.zone, self._invoices()[-1]["id"])

    def _use(self, until: date, part: str) -> None:
        end = datetime.combine(until, datetime.min.time(), UTC)
        self._advance(end - timedelta(hours=12))
        self._say("Usage", f"Events of the {part} reach the API in batches of 1,000; then all of them once more.")
        for round_ in ("first", "again"):
            took = {"accepted": 0, "duplicate": 0, "quarantined": 0}
            for source in self.scenario.sources:
                for batch in events(source, sent_before(source, part)):
                    answer = self.door.post("/v1/events", {"events": batch})
                    took = {key: took[key] + answer[key] for key in took}
            self.console.print(f"  {round_}: " + ", ".join(f"{many:,} {what}" for what, many in took.items()))
        if part == "second half":
            self._quarantine()

    def _quarantine(self) -> None:
        stray = {
            "source": "gateway",
            "id": "stray-1",
            "subject": "a-new-workspace",
            "type": "llm.request",
            "time": datetime.combine(self.scenario.day(20), datetime.min.time(), UTC).isoformat(),
            "data": {"input_tokens": 0, "output_tokens": 0},
        }
        answer = self.door.post("/v1/events", {"events": [stray]})
        self.console.print(f"  an event of an unknown workspace: {answer['quarantined']} quarantined, not lost")
        self.door.post(f"/v1/customers/{self.customer}/aliases", {"alias": stray["subject"]})
        again = self.door.post("/v1/quarantine/replay", {})
        self.console.print(f"  the workspace is attributed to the customer and replayed: {again['accepted']} accepted")

    def _upgrade(self) -> None:
        self._say("Upgrade", "A change in the middle of the month: previewed, then made as previewed.")
        path = f"/v1/subscriptions/{self.subscription}/amendments"
        change = self.scenario.upgrade
        seen = self.door.post(f"{path}/preview", change)
        show.preview(self.console, seen)
        answer = self.door.post(path, {**change, "id": "upgrade-1", "preview_hash": seen["preview_hash"]})
        again = self.door.post(path, {**change, "id": "upgrade-1", "preview_hash": seen["preview_hash"]})
        same = "the same" if again == answer else "ANOTHER"
        self.console.print(f"  amended as of {answer['effective_on']}; sent twice, {same} answer")

    def _bill(self) -> None:
        self._advance(datetime.combine(self.scenario.next_month, datetime.min.time(), UTC) + timedelta(hours=9))
        self._say("Billing run", "The period has ended: everything due is billed in one set. The card is declined.")
        for issued in self._invoices()[-1 - len(self.scenario.others) :]:
            show.invoice(self.console, self.door, self.zone, issued["id"])

    def _collect(self) -> None:
        self._advance(datetime.combine(self.scenario.next_month, datetime.min.time(), UTC) + timedelta(days=3, hours=9))
        self._say("Collection", "Three days later the card is tried again; Stripe's webhook says that it was paid.")
        for issued in self._invoices():
            show.payments(self.console, self.door, self.zone, issued["id"])

    def _cancel(self) -> None:
        self._say("Cancellation", "The customer asks to end; the subscription gets a signal.")
        path = f"/v1/subscriptions/{self.subscription}"
        self.door.post(f"{path}/cancellations", {"id": "farewell-1", "reason": "moves in-house"})
        ends = self._until(lambda: self.door.get(path)["ends_on"], "the cancellation to be scheduled")
        self.console.print(f"  scheduled: it ends on {ends}, the first day that is not billed")

    def _close(self) -> None:
        self._advance(datetime.combine(self.scenario.next_month, datetime.min.time(), UTC) + timedelta(days=4, hours=9))
        month = f"{self.scenario.month:%Y-%m}"
        self._say("Month close", f"{month}: cut off, recognise, prove; then it waits for an approval.")
        path = f"/v1/entities/{self.entity}/closes/{month}"
        close = self._until(lambda: self._at(path, "awaiting approval"), "the tie-outs")
        show.tie_outs(self.console, close)
        self.door.post(f"{path}/approve", {"by": "Carla Controller", "note": "tie-outs looked at"})
        close = self._until(lambda: self._at(path, "locked"), "the lock")["close"]
        self.console.print(
            f"  approved by {close['approved_by']}, posted to the ERP as {close['erp_reference']}, locked"
        )

    def _at(self, path: str, stage: str) -> Json:
        found = self.door.get(path)
        return found if found["close"]["stage"] == stage else {}

    def _results(self) -> None:
        month = f"{self.scenario.month:%Y-%m}"
        self._say("The books", f"Journal of {month} and trial balance through the following month.")
        ledger = f"/v1/entities/{self.entity}/ledger"
        show.journal(self.console, self.door.get(f"{ledger}/{month}/journal?limit=1000")["lines"])
        show.trial_balance(self.console, self.door.get(f"{ledger}/{self.scenario.next_month:%Y-%m}/trial-balance"))
        self._replay()
        pdf = self.stack.folder.parent / "demo-invoice.pdf"
        mine = [i for i in self._invoices() if i["subscription_id"] == self.subscription][-1]
        pdf.write_bytes(self.door.bytes(f"/v1/invoices/{mine['id']}/pdf"))
        show.addresses(self.console, self.stack.addresses, pdf, self.stack.folder / "erp")

    def _replay(self) -> None:
        again = [self.door.get(f"/v1/invoices/{issued['id']}/replay") for issued in self._invoices()]
        lines = sum(len(one["lines"]) for one in again)
        same = "the same to the cent" if all(one["same"] for one in again) else "NOT THE SAME"
        self.console.print(f"\n  replayed from what is stored: {lines} lines of {len(again)} invoices, {same}")

    def _invoices(self) -> list[Json]:
        found: list[Json] = self.door.get("/v1/invoices")
        return found

    def _advance(self, to: datetime) -> None:
        self.door.post("/v1/test-clocks/demo/advance", {"to": to.isoformat()})
        with self.console.status(f"living until {to:%d %B %Y}"):
            self._until(lambda: self._arrived(to), f"the clock to reach {to}")

    def _arrived(self, to: datetime) -> bool:
        clock = self.door.get("/v1/test-clocks/demo")
        return not clock["moving"] and datetime.fromisoformat(clock["now"]) >= to

    def _until(self, look: Callable[[], Json], what: str) -> Json:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.1)
        raise StartFailed("demo", f"waited {PATIENCE_SECONDS} s in vain for {what}", "See the logs of worker and API.")

    def _say(self, title: str, text: str) -> None:
        clock = self.door.get("/v1/test-clocks/demo")["now"][:10] if title != "Price list" else ""
        self.console.print(f"\n[bold green]{title}[/] [dim]{clock}[/]\n  {escape(text)}", soft_wrap=True)


def _key(stack: Stack) -> str:
    """An administrator's key, made by the command line like any other."""
    words = [sys.executable, "-m", "cli", "keys", "create", "demo", "--scopes", "admin"]
    made = subprocess.run(words, env=stack.environment, capture_output=True, text=True, check=True)
    return made.stdout.strip()
