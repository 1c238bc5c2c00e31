"""The demo's month on the embedded stack, seen from outside: every joint is real, and this looks at each."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from temporalio.client import Client

from sandbox.demo import Month
from sandbox.door import Door
from sandbox.scenario import built_in, from_traces
from sandbox.stack import Stack
from sandbox.trace import generated
from workflows.attributes import STAGE


class Collector:
    """What OpenTelemetry exporters sent, undecoded: names stand in it as text."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[tuple[Stack, str, Month]]:
    """A stack that has lived the month, and what the demo printed."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with Stack(tmp_path_factory.mktemp("demo") / "stack", keep=False) as stack:
            month = Month(Console(file=text, width=140), stack, built_in())
            month.live()
            yield stack, text.getvalue(), month


def test_the_figures_of_the_month(told: tuple[Stack, str, Month]) -> None:
    _, text, _ = told
    assert "due 798.63 EUR" in text
    assert "total 2,035.50 EUR, less prepaid credit 50.00 EUR: due 1,985.50 EUR" in text
    assert "insufficient_funds" in text
    assert "NL-2026-000002: settled, open 0.00 EUR" in text
    assert text.count("holds") == 14
    assert "DIFFERS" not in text


def test_the_journal_that_was_posted_satisfies_bean_check(told: tuple[Stack, str, Month]) -> None:
    stack, _, _ = told
    [journal] = (stack.folder / "erp").iterdir()
    check = Path(sys.executable).with_name("bean-check")
    done = subprocess.run([check, journal], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Income:4010-Revenue-Usage" in journal.read_text()


def test_salesforce_holds_the_subscription_and_its_state(told: tuple[Stack, str, Month]) -> None:
    stack, _, month = told
    url = f"{stack.addresses.salesforce_url}/_sandbox/records/Opportunity"
    door = Door(stack.addresses.api_url, month.key)
    [deal] = door.read(url, stack)
    door.close()
    assert deal["Perennial_Subscription__c"] == month.subscription
    assert deal["Perennial_Status__c"].startswith("active")


def test_stripe_captured_each_payment_once(told: tuple[Stack, str, Month]) -> None:
    stack, _, _ = told
    intents = httpx.get(f"{stack.addresses.stripe_url}/_sandbox/payment_intents", trust_env=False).json()
    assert sorted((i["amount"], i["status"]) for i in intents["data"]) == [
        (79863, "succeeded"),
        (198550, "canceled"),
        (198550, "succeeded"),
    ]


async def _described(address: str, workflow_id: str) -> tuple[str, str | None, str]:
    client = await Client.connect(address)
    handle = client.get_workflow_handle(workflow_id)
    found = await handle.describe()
    details = await handle.query("__temporal_workflow_metadata")
    return found.typed_search_attributes.get(STAGE) or "", found.workflow_type, details.current_details


@pytest.mark.anyio
async def test_temporal_shows_stage_and_details(told: tuple[Stack, str, Month]) -> None:
    stack, _, month = told
    stage, kind, details = await _described(stack.addresses.temporal_address, f"subscription/{month.subscription}")
    assert (stage, kind) == ("active", "Subscription")
    assert "Business (version 1), 25 seats" in details
    assert "ends on 2026-03-01" in details
    stage, _, _ = await _described(stack.addresses.temporal_address, f"close/{month.entity}/2026-01")
    assert stage == "locked"


def test_every_log_line_is_one_json_object_and_names_its_workflow(told: tuple[Stack, str, Month]) -> None:
    stack, _, month = told
    lines = [json.loads(line) for line in stack.log("worker").read_text().splitlines()]
    looks = [x for x in lines if x.get("activity") == "look"]
    assert looks
    assert {x["workflow_id"] for x in looks} == {f"subscription/{month.subscription}"}
    requests = [json.loads(line) for line in stack.log("api").read_text().splitlines()]
    assert any(x.get("invoice_id") for x in requests if x["event"] == "request")
    assert month.key.split(".")[1] not in stack.log("api").read_text()


def test_metrics_count_events_and_what_waits(told: tuple[Stack, str, Month]) -> None:
    stack, _, _ = told
    figures = httpx.get(f"{stack.addresses.api_url}/metrics", trust_env=False).text
    assert 'perennial_usage_events_total{outcome="accepted"} 8000.0' in figures
    assert 'perennial_usage_events_total{outcome="duplicate"} 8000.0' in figures
    assert 'perennial_backlog{kind="outbox"} 0.0' in figures


def test_traces_reach_the_collector(told: tuple[Stack, str, Month], collector: Collector) -> None:
    sent = b"".join(collector.received)
    for name in (b"perennial-api", b"perennial-worker", b"POST /v1/events", b"RunWorkflow:BillingRun"):
        assert name in sent


def test_a_trace_file_is_billed_at_its_own_prices(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    rows = [f"{r.at:%Y-%m-%d %H:%M:%S}.0000000,{r.context},{r.generated}" for r in generated(date(2025, 4, 1), 50)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    scenario = from_traces([path, path])
    assert scenario.month == date(2025, 4, 1)
    assert [len(source.requests) for source in scenario.sources] == [50, 50]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n")
    with pytest.raises(ValueError, match="line 2"):
        from_traces([path])


def test_a_trace_that_cannot_be_read_says_what_it_must_have(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    with pytest.raises(ValueError, match=r"there is no file .*other\.csv"):
        from_traces([path])
    path.write_text("time,ContextTokens\n2025-04-01,1\n")
    with pytest.raises(ValueError, match="TIMESTAMP, ContextTokens, GeneratedTokens; it has time, ContextTokens"):
        from_traces([path])
    path.write_text("")
    with pytest.raises(ValueError, match="it has none"):
        from_traces([path])
