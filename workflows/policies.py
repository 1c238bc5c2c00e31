"""Timeouts, retries and queues: each has a name here and nowhere else.

Retries end only for what a person must mend (`Refused`, `Broken`, see activities/outcomes.py); time helps the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy


class Policy(TypedDict, total=False):
    """How an activity is run; each call adds its own summary."""

    task_queue: str
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy


LIFECYCLE = "lifecycle"
BILLING = "billing"
DOORS = "doors"

_STEADY = RetryPolicy(initial_interval=timedelta(seconds=0.2), maximum_interval=timedelta(seconds=15))
_PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5))

# One short transaction.
DATABASE = Policy(task_queue=BILLING, start_to_close_timeout=timedelta(seconds=8), retry_policy=_STEADY)
# One large transaction: a batch.
SET_WORK = Policy(task_queue=BILLING, start_to_close_timeout=timedelta(seconds=30), retry_policy=_STEADY)
# A month of all that a legal entity has, as long as that takes. A large answer of PostgreSQL may hold up the heartbeat.
WHOLE_ENTITY = Policy(
    task_queue=BILLING,
    start_to_close_timeout=timedelta(hours=2),
    heartbeat_timeout=timedelta(seconds=30),
    retry_policy=_STEADY,
)
# A neighbour, with a heartbeat so that a dead worker is noticed before a slow neighbour is given up.
NEIGHBOUR = Policy(
    task_queue=DOORS,
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=6),
    retry_policy=_PATIENT,
)
# Work that is not waited for and may take long, with a heartbeat; what holds it up is let be for a while.
AHEAD = Policy(
    task_queue=BILLING,
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=6),
    retry_policy=_PATIENT,
)
# Waiting for other workflows to do what is due.
OTHERS = Policy(
    task_queue=LIFECYCLE,
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=6),
    retry_policy=_STEADY,
)

# How long a payment under way is waited for by its webhook before the gateway is asked.
WEBHOOK_PATIENCE = timedelta(seconds=5)
