"""The composition root of the API: clients into the application, routes, and what surrounds every request."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

import structlog
from fastapi import Depends, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from api import (
    catalog,
    closes,
    conflicts,
    corrections,
    customers,
    discards,
    entities,
    entitlements,
    entries,
    event_previews,
    events,
    health,
    invoices,
    late_usage,
    plans,
    prices,
    problems,
    rebuilds,
    rollouts,
    schemas,
    stored_events,
    subscription_usage,
    subscriptions,
    taxes,
    transfers,
    unbilled,
    usage,
    usage_proofs,
    usage_windows,
    webhooks,
)
from api.access import Doors
from api.bodies import SizeLimit
from api.document import document, operation_id
from api.observed import Observed
from api.parameters import only_declared
from api.short_way import ShortWay
from billing.time_bounds import TimeBounds
from integrations.payments.registry import open_gateway
from models.database import open_engine
from observability import figures_of, start_logging, start_tracing, stop_tracing
from settings import Settings
from web import console, reference
from web.error_page import for_browsers
from workflows.client import connect

log = structlog.get_logger()

ROOMS = (
    events,
    event_previews,
    usage,
    discards,
    usage_windows,
    stored_events,
    conflicts,
    corrections,
    unbilled,
    customers,
    subscriptions,
    subscription_usage,
    invoices,
    transfers,
    late_usage,
    usage_proofs,
    closes,
    catalog,
    rebuilds,
    plans,
    prices,
    entries,
    entitlements,
    schemas,
    rollouts,
    taxes,
    entities,
    webhooks,
    health,
)
"""In the order in which the documentation shows them."""

DESCRIPTION = """
Billing that you host yourself. Money is exact; ids are yours where you bring them, and sending the same again changes
nothing. Errors are problem documents (RFC 9457) with the field, the reason and what to do. Unknown
query parameters are rejected, not ignored.
"""


def _collect_rarely() -> None:
    """What was loaded stays, and is not looked through again. Events come by the thousand and hold no cycles: looking
    for some among each 700 new objects takes a third of the time they take altogether.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def create(settings: Settings | None = None) -> FastAPI:
    """The application; without `settings`, from the environment."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        start_logging(chosen, "api")
        engine = open_engine(chosen.database_url.get_secret_value(), chosen.database_pool, name="perennial api")
        api_key = chosen.temporal_api_key.get_secret_value() if chosen.temporal_api_key else None
        tracing = start_tracing(chosen, "api")
        client = await connect(chosen.temporal_address, chosen.temporal_namespace, api_key, tracing)
        bounds = TimeBounds(timedelta(days=chosen.events_oldest_days), timedelta(hours=chosen.events_newest_hours))
        app.state.doors = Doors.open(engine, client, bounds)
        app.state.gateways = {chosen.payment_gateway: open_gateway(chosen.payment_gateway, chosen)}
        _collect_rarely()
        log.info("api ready", port=chosen.api_port)
        yield
        app.state.doors.close()
        engine.dispose()
        stop_tracing()

    app = FastAPI(
        title="Perennial",
        version=version("perennial"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        separate_input_output_schemas=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # Instrumented below, and by `Observed`.
    )
    app.state.figures = figures_of(chosen)
    problems.install(app)
    app.exception_handlers.update({kind: for_browsers(handle) for kind, handle in app.exception_handlers.items()})
    for room in ROOMS:
        app.include_router(
            room.router,
            dependencies=[Depends(only_declared)],
            responses={"default": {"model": problems.Problem}},
        )
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    for page in (console, reference):
        app.include_router(page.router, include_in_schema=False)
    app.add_middleware(SizeLimit)
    app.add_middleware(ShortWay, handlers=app.exception_handlers)
    app.add_middleware(Observed)
    if chosen.otel_exporter_otlp_endpoint:
        FastAPIInstrumentor.instrument_app(app)
    return app
