"""The default chart of accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from billing.plan import RevenueKind

Side = Literal["D", "C"]
Class = Literal["Assets", "Liabilities", "Income", "Expenses", "Equity"]


@dataclass(frozen=True, slots=True)
class Account:
    """A ledger account; `side` is where its balance normally stands."""

    number: str
    name: str
    side: Side
    of: Class


CASH = Account("1000", "Cash at bank", "D", "Assets")
PROVIDER_CLEARING = Account("1050", "Provider clearing", "D", "Assets")
RECEIVABLES = Account("1100", "Receivables", "D", "Assets")
CONTRACT_POSITION = Account("1200", "Contract position", "C", "Liabilities")
CREDIT_WALLETS = Account("2100", "Customer credit wallets", "C", "Liabilities")
TAX_PAYABLE = Account("2400", "Tax payable", "C", "Liabilities")
RECURRING_REVENUE = Account("4000", "Revenue recurring", "C", "Income")
USAGE_REVENUE = Account("4010", "Revenue usage", "C", "Income")
ONE_TIME_REVENUE = Account("4020", "Revenue one-time", "C", "Income")

CHART = {
    account.number: account
    for account in (
        CASH,
        PROVIDER_CLEARING,
        RECEIVABLES,
        CONTRACT_POSITION,
        CREDIT_WALLETS,
        TAX_PAYABLE,
        RECURRING_REVENUE,
        USAGE_REVENUE,
        ONE_TIME_REVENUE,
    )
}

REVENUE: dict[RevenueKind, Account] = {
    "recurring": RECURRING_REVENUE,
    "usage": USAGE_REVENUE,
    "one_time": ONE_TIME_REVENUE,
}
