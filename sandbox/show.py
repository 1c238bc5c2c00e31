"""Printing what the API answered, for the demo."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox.door import Door, Json
from sandbox.stack import Addresses


def _table(*columns: str, numbers: int = 1) -> Table:
    """A plain table whose last `numbers` columns are figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i >= len(columns) - numbers else "left", no_wrap=i > 0)
    return table


def _minor(minor: int, currency: str) -> str:
    return f"{Decimal(minor) / (1 if currency == 'JPY' else 100):,.2f} {currency}"


def invoice(console: Console, door: Door, zone: ZoneInfo, invoice_id: str) -> None:
    """An invoice with its lines, discount, tax, credits, and how it was paid."""
    found = door.get(f"/v1/invoices/{invoice_id}")
    head, currency = found["invoice"], found["invoice"]["currency"]
    console.print(f"  [bold]{head['kind'].replace('_', ' ').title()} {head['number']}[/], issued {head['issued_on']}")
    table = _table("  line", "period", "quantity", "gross", "discount", "net", numbers=4)
    for line in found["lines"]:
        table.add_row(
            f"  {escape(line['description'])}",
            f"{line['period_start']} - {line['period_end']}",
            f"{Decimal(line['quantity']):,f}",
            _minor(line["gross_minor"], currency),
            _minor(-line["discount_minor"], currency) if line["discount_minor"] else "",
            _minor(line["gross_minor"] - line["discount_minor"], currency),
        )
    console.print(table)
    for tax in found["taxes"]:
        base = _minor(tax["base_minor"], currency)
        console.print(f"    {tax['jurisdiction']} {tax['percent']}% on {base}: {_minor(tax['tax_minor'], currency)}")
    drawn = f", less prepaid credit {_minor(head['drawn_minor'], currency)}" if head["drawn_minor"] else ""
    due = _minor(head["due_minor"], currency)
    console.print(f"    total {_minor(head['total_minor'], currency)}{drawn}: [bold]due {due}[/]")
    payments(console, door, zone, invoice_id, found)


def payments(console: Console, door: Door, zone: ZoneInfo, invoice_id: str, found: Json = None) -> None:
    """An invoice's attempts and what is open."""
    found = found or door.get(f"/v1/invoices/{invoice_id}")
    head = found["invoice"]
    for attempt in found["payments"]:
        said = f" ({attempt['decline_code']})" if attempt["decline_code"] else ""
        amount = _minor(attempt["amount_minor"], head["currency"])
        day = datetime.fromisoformat(attempt["started_at"]).astimezone(zone).date()
        console.print(f"    {head['number']}: attempt {attempt['no']} on {day}: {amount} {attempt['state']}{said}")
    console.print(f"    {head['number']}: {found['status']}, open {_minor(head['open_minor'], head['currency'])}")


def preview(console: Console, seen: Json) -> None:
    """What a change would cost."""
    table = _table("  line", "period", "net")
    for line in seen["lines"]:
        net = line["gross"]["minor"] - line["discount"]["minor"]
        period = f"{line['period']['start']} - {line['period']['end']}"
        table.add_row(f"  {escape(line['description'])}", period, _minor(net, line["gross"]["currency"]))
    console.print(table)
    net, before, after = (
        _minor(seen[key]["minor"], seen[key]["currency"]) for key in ("net", "recurring_before", "recurring_after")
    )
    console.print(f"  on the next invoice: {net}; the recurring amount goes from {before} to {after}")


def tie_outs(console: Console, close: Json) -> None:
    """Each comparison with its difference."""
    table = _table("  tie-out", "one side", "the other", "difference", "", numbers=4)
    for t in close["tie_outs"]:
        figures = (f"{Decimal(t[name]):,f}" for name in ("left", "right", "difference"))
        holds = "[green]holds[/]" if t["holds"] else "[red]DIFFERS[/]"
        table.add_row(f"  {t['name']} ({t['unit']})", *figures, holds)
    console.print(table)


def journal(console: Console, rows: Json) -> None:
    """The month's entries."""
    table = _table("  day and cause", "account", "debit", "credit", numbers=2)
    for _, lines in groupby(rows, key=lambda row: row["entry_id"]):
        for no, row in enumerate(lines):
            amount = _minor(row["amount_minor"], row["currency"])
            label = f"  {row['posted_on']} {row['description']}" if no == 0 else ""
            debit, credit = (amount, "") if row["side"] == "D" else ("", amount)
            table.add_row(label, row["account"], debit, credit)
    console.print(table)


def trial_balance(console: Console, rows: Json) -> None:
    """Every account with its balance; debits and credits are equal."""
    table = _table("  account", "debit", "credit", "balance", numbers=3)
    for row in rows:
        currency = row["currency"]
        figures = [f"{Decimal(row[key]):,.2f} {currency}" for key in ("debit", "credit", "balance")]
        table.add_row(f"  {row['account']} {row['name']}", *figures)
    debit, credit = (sum(Decimal(row[key]) for row in rows) for key in ("debit", "credit"))
    table.add_row("  [bold]all accounts[/]", f"{debit:,.2f}", f"{credit:,.2f}", f"{debit - credit:,.2f}")
    console.print(table)


def addresses(console: Console, at: Addresses, pdf: Path, erp: Path) -> None:
    """Where one can look. Of an operator's Temporal only TEMPORAL_UI_URL says where its Web UI is."""
    api, ui = at.api_url, f"{at.temporal_ui_url}/namespaces/{at.temporal_namespace}/workflows"
    console.print("\n[bold green]Look around[/]")
    console.print(f"  API documentation  {api}/docs", soft_wrap=True)
    console.print(f"  Console            {api}/console (any name; the key as password)", soft_wrap=True)
    shown = ui if at.temporal_ui_url else f"that of your server, namespace {at.temporal_namespace}"
    console.print(f"  Temporal UI        {shown}", soft_wrap=True)
    console.print(f"  The invoice        {pdf}", soft_wrap=True)
    console.print(f"  The ERP's journal  {erp}", soft_wrap=True)
