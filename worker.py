"""The composition root of the hands: clients into activities, then run.

One process serves all task queues. There are as many threads as slots, and no activity holds more than one connection,
so a pool of as many is enough for none to wait for another's; a smaller one is refused.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import structlog
from sqlalchemy import Engine
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.billing import Billing
from activities.clock import Clocks
from activities.closing import Closing
from activities.delivery import Deliveries
from activities.lifecycle import Lifecycle
from activities.metering import Metering
from activities.onboarding import Onboarding
from activities.outcomes import Outcomes
from activities.payments import Payments
from activities.rebuilding import Rebuilds
from activities.rolling_out import Rollouts
from billing.errors import Refused
from integrations.crm import Crm
from integrations.crm.registry import open_crm
from integrations.erp import Erp
from integrations.erp.registry import open_erp
from integrations.payments import PaymentGateway
from integrations.payments.registry import open_gateway
from models.crm import BEGINNING
from models.database import open_engine, transaction
from models.entity import entities
from models.home import is_at_home
from observability import start_logging, start_tracing, stop_tracing, worker_runtime
from settings import Settings
from workflows.client import connect, start_duties
from workflows.policies import BILLING, DOORS, LIFECYCLE
from workflows.registry import WORKFLOWS, runner

log = structlog.get_logger()

SLOTS = {LIFECYCLE: 8, BILLING: 4, DOORS: 8}
ALL_SLOTS = sum(SLOTS.values())
DEPLOYMENT = WorkerDeploymentConfig(WorkerDeploymentVersion("perennial", version("perennial")), False)
"""What a worker calls its code; any worker may go on with any run. Left to itself, the SDK reads and hashes each loaded
module for a name: half a second at each start.
"""


class Hands:
    """All activities, holding what they need."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        gateway: tuple[str, PaymentGateway],
        crm: tuple[str, Crm],
        erp: tuple[str, Erp],
        crm_since: datetime = BEGINNING,
        events_remembered: timedelta | None = None,
    ) -> None:
        self.billing = Billing(engine)
        self.lifecycle = Lifecycle(engine)
        self.payments = Payments(engine, *gateway)
        self.closing = Closing(engine, *erp)
        self.deliveries = Deliveries(engine, crm[1])
        self.onboarding = Onboarding(engine, *crm, client, crm_since)
        self.rollouts = Rollouts(engine)
        self.rebuilds = Rebuilds(engine)
        self.metering = Metering(engine, events_remembered)
        self.clocks = Clocks(engine, client)

    def on(self, queue: str) -> Sequence[Callable[..., Any]]:
        """The activities that a task queue serves; see workflows/policies.py for who goes where."""
        database: list[Callable[..., Any]] = [
            self.billing.open_run,
            self.billing.bill_batch,
            self.billing.bill_one,
            self.billing.finish_run,
            self.lifecycle.look,
            self.lifecycle.amend,
            self.lifecycle.cancel,
            self.lifecycle.withdraw_amendment,
            self.lifecycle.withdraw_cancellation,
            self.lifecycle.ask,
            self.lifecycle.park,
            self.lifecycle.resume,
            self.onboarding.open_account,
            self.closing.begin,
            self.closing.check_billed,
            self.closing.recognise,
            self.closing.prove,
            self.closing.await_approval,
            self.closing.approve,
            self.closing.lock,
            self.rollouts.look_at_rollout,
            self.rollouts.stage,
            self.rollouts.decide,
            self.rollouts.take_back,
            self.rebuilds.look_at_rebuild,
            self.rebuilds.open_rebuild,
            self.rebuilds.count_rebuild,
            self.rebuilds.compare_rebuild,
            self.rebuilds.apply_rebuild,
            self.rebuilds.drop_rebuild,
            self.rebuilds.clear_rebuild,
            self.metering.make_months,
            self.metering.forget_names,
            self.clocks.aim,
            self.clocks.due_now,
            self.clocks.move_on,
        ]
        neighbours: list[Callable[..., Any]] = [
            self.payments.charge_run,
            self.payments.collect,
            self.payments.ask_gateway,
            self.deliveries.deliver,
            self.deliveries.drain,
            self.onboarding.read_deals,
            self.closing.post_to_erp,
        ]
        others: list[Callable[..., Any]] = [
            self.onboarding.hand_over,
            self.clocks.tick,
            self.clocks.rouse,
            self.clocks.wake_overdue,
        ]
        return {BILLING: database, DOORS: neighbours, LIFECYCLE: others}[queue]


def workers(client: Client, hands: Hands, pool: ThreadPoolExecutor) -> list[Worker]:
    """One worker a task queue; workflows run on the first."""
    return [
        Worker(
            client,
            task_queue=queue,
            workflows=WORKFLOWS if queue == LIFECYCLE else (),
            activities=hands.on(queue),
            activity_executor=pool,
            max_concurrent_activities=slots,
            workflow_runner=runner(),
            deployment_config=DEPLOYMENT,
            interceptors=[Outcomes()],
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            graceful_shutdown_timeout=timedelta(seconds=5),
        )
        for queue, slots in SLOTS.items()
    ]


def _has_enough(connections: int) -> None:
    if connections < ALL_SLOTS:
        raise Refused(
            f"DATABASE_POOL is {connections}, and a worker does {ALL_SLOTS} things at a time, each with a connection.",
            code="pool_too_small",
            remedy=f"Set it to {ALL_SLOTS} or more, or leave it out.",
        )


def _on_the_wall(engine: Engine) -> list[tuple[str, str]]:
    """Legal entities whose days are real ones, with their time zones. Refused if the database was moved."""
    with transaction(engine) as session:
        if not is_at_home(session):
            raise Refused(
                "The database was restored on another server.", code="other_server", remedy="Run `perennial migrate`."
            )
        return [(e.id, e.time_zone) for e in entities(session) if e.clock_id is None]


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is finished or taken up by another worker.

    Refused with fewer connections than slots.
    """
    _has_enough(settings.database_pool)
    start_logging(settings, "worker")
    api_key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    client = await connect(
        settings.temporal_address,
        settings.temporal_namespace,
        api_key,
        start_tracing(settings, "worker"),
        worker_runtime(settings),
    )
    engine = open_engine(settings.database_url.get_secret_value(), settings.database_pool, name="perennial worker")
    hands = Hands(
        engine,
        client,
        (settings.payment_gateway, open_gateway(settings.payment_gateway, settings)),
        (settings.crm, open_crm(settings.crm, settings)),
        (settings.erp, open_erp(settings.erp, settings)),
        settings.crm_since,
        settings.events_remembered,
    )
    on_the_wall = _on_the_wall(engine)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with ThreadPoolExecutor(ALL_SLOTS) as pool:
        async with AsyncExitStack() as running:
            for worker in workers(client, hands, pool):
                await running.enter_async_context(worker)
            await start_duties(client, on_the_wall)
            log.info("worker ready", queues=list(SLOTS), namespace=settings.temporal_namespace)
            await stop.wait()
            log.info("worker stopping")
    engine.dispose()
    stop_tracing()


if __name__ == "__main__":
    asyncio.run(run(Settings()))
