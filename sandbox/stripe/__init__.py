"""A local server that behaves like Stripe's API 2026-10-28.endive towards the official SDK, faults included.

`StripeServer` runs it inside a test; `python -m sandbox.stripe` runs it as a process of its own. What it
accepts is checked against the SDK's generated parameter types; what it remembers is gone when it ends.
"""

from sandbox.stripe.account import API_KEY, WEBHOOK_SECRET
from sandbox.stripe.server import StripeServer

__all__ = ["API_KEY", "WEBHOOK_SECRET", "StripeServer"]
