"""The month again and again, while its worker is killed at random moments: the same invoices and books, to the row.

`make test` kills twenty times; `make storm` more (KILLS). The seed is printed and can be given (SEED).
"""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from sandbox.demo import Month
from sandbox.scenario import built_in
from sandbox.stack import Stack

KILLS = int(os.environ.get("KILLS", "20"))
KILLS_A_MONTH = 10
SEED = int(os.environ.get("SEED", str(random.randrange(10**6))))

# What has to be the same, without the columns that say when the machine wrote something down.
ROWS = {
    "invoice": "to_jsonb(t) - 'usage_snapshot'",
    "invoice_number": "to_jsonb(t)",
    "invoice_line": "to_jsonb(t)",
    "invoice_tax": "to_jsonb(t)",
    "document": "jsonb_build_array(invoice_id, sha256)",
    "credit_grant": "to_jsonb(t)",
    "credit_draw": "to_jsonb(t)",
    "payment_attempt": "to_jsonb(t)",
    "journal_entry": "to_jsonb(t) - 'recorded_at'",
    "journal_line": "to_jsonb(t)",
    "account_total": "to_jsonb(t)",
    "ledger_period": "to_jsonb(t)",
    "obligation": "to_jsonb(t)",
    "subscription": "to_jsonb(t)",
    "subscription_transition": "to_jsonb(t)",
    "subscription_terms": "to_jsonb(t)",
    "billing_lane": "to_jsonb(t)",
    "amendment": "to_jsonb(t) - 'requested_by'",
    "cancellation": "to_jsonb(t) - 'requested_by'",
    "pending_item": "to_jsonb(t)",
    "agenda": "to_jsonb(t)",
    "usage_total": "to_jsonb(t)",
    "usage_seen": "to_jsonb(t)",
    "usage_proof": "to_jsonb(t) - 'snapshot' - 'signed_at'",
    "held_usage": "to_jsonb(t)",
    "month_close": "to_jsonb(t) - 'approved_with'",
    "tie_out": "to_jsonb(t)",
    "outbox": "jsonb_build_array(id, door, payload, delivered_at is not null)",
}


def rows(stack: Stack) -> dict[str, list[str]]:
    """The tables that matter, as text, in order."""
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        return {
            table: [text for (text,) in connection.execute(f"select ({what})::text from {table} t order by 1")]
            for table, what in ROWS.items()
        }


@contextmanager
def killing(stack: Stack, dice: random.Random, times: int) -> Iterator[list[float]]:
    """Kill the worker at random moments of its work, and start it again after a random rest. Yields when it was killed.

    Its work begins when it is ready: one that is killed while it starts, which takes seconds, has broken nothing off.
    """
    killed: list[float] = []
    over = threading.Event()
    started = time.monotonic()

    def kill() -> None:
        before = 0
        while len(killed) < times:
            while (ready := stack.log("worker").read_text().count("worker ready")) == before:
                if over.wait(0.05):
                    return
            if over.wait(dice.uniform(0.0, 1.5)):
                return
            stack.kill_worker()
            before = ready
            killed.append(round(time.monotonic() - started, 2))
            time.sleep(dice.uniform(0.0, 0.5))
            stack.start_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def live(folder: Path, kills: int, seed: int) -> tuple[dict[str, list[str]], int]:
    """One month on a stack of its own; its rows, and how often its worker was killed."""
    told = Console(file=io.StringIO(), width=120)
    with Stack(folder, keep=False) as stack:
        month = Month(told, stack, built_in())
        with killing(stack, random.Random(seed), kills) as killed:
            month.live()
        return rows(stack), len(killed)


def test_a_worker_killed_at_random_leaves_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected, _ = live(tmp_path / "calm", 0, 0)
    assert len(expected["invoice"]) == 2
    assert len(expected["payment_attempt"]) == 3
    done = months = 0
    while done < KILLS:
        seed = SEED + months
        found, killed = live(tmp_path / f"month-{months}", min(KILLS_A_MONTH, KILLS - done), seed)
        done, months = done + killed, months + 1
        with capsys.disabled():
            print(f"\n  month {months}, seed {seed}: {killed} kills, {done} of {KILLS} in all", end="", flush=True)
        different = {
            table: (sorted(set(expected[table]) - set(found[table])), sorted(set(found[table]) - set(expected[table])))
            for table in ROWS
            if expected[table] != found[table]
        }
        assert not different, f"seed {seed}: {different}"
        assert killed, "the month was over before the worker could be killed"
