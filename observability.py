"""Logs, traces and metrics of a process: set up once by each root, from the settings.

Logs are one JSON object a line and carry the business ids that are bound on the way. Traces go to an OpenTelemetry
collector when an endpoint is configured. The worker's own metrics are Temporal's, in Prometheus format.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from settings import Settings


def start_logging(settings: Settings, process: str) -> None:
    """Structured logs on standard error, our own and those of libraries."""
    last = structlog.dev.ConsoleRenderer() if settings.log_format == "console" else structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def _with_trace(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
    return event


def start_tracing(settings: Settings, process: str) -> Sequence[Interceptor]:
    """The interceptors that trace calls to Temporal; none, and no exporter, when no endpoint is configured."""
    if settings.otel_exporter_otlp_endpoint is None:
        return ()
    provider = TracerProvider(resource=Resource.create({"service.name": f"perennial-{process}"}))
    endpoint = f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    return (TracingInterceptor(),)


def stop_tracing() -> None:
    """Send what is still held back."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def worker_runtime(settings: Settings) -> Runtime | None:
    """Temporal's runtime with its metrics served, if a port is set."""
    if not settings.metrics_port:
        return None
    metrics = PrometheusConfig(bind_address=f"0.0.0.0:{settings.metrics_port}")
    return Runtime(telemetry=TelemetryConfig(metrics=metrics))


def figures_of(settings: Settings) -> CollectorRegistry:
    """The API's own metrics: of this process, or together of all that serve on its port."""
    if settings.prometheus_multiproc_dir is None:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(settings.prometheus_multiproc_dir))  # type: ignore[no-untyped-call]
    return registry
