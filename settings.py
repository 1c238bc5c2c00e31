"""Everything that is set from outside, read from the environment. Only the roots (worker, cli, api/app) read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One field per environment variable of the same name in capitals; a wrong value stops the start."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://localhost/perennial"), description="PostgreSQL 15 or newer, as a URL."
    )
    database_pool: int = Field(
        default=24, ge=2, description="Connections a process may hold; a worker needs one for each of its slots, 20."
    )
    temporal_address: str = Field(default="127.0.0.1:7233", description="Temporal frontend, host:port.")
    temporal_namespace: str = Field(default="default", description="Temporal namespace.")
    temporal_api_key: SecretStr | None = Field(default=None, description="For Temporal Cloud; turns TLS on.")

    payment_gateway: str = Field(default="stripe", description="Name in the registry of payment gateways.")
    stripe_api_key: SecretStr = Field(default=SecretStr(""), description="Secret key of the Stripe account.")
    stripe_webhook_secret: SecretStr = Field(default=SecretStr(""), description="Signing secret of our endpoint.")
    stripe_api_base: str = Field(default="https://api.stripe.com", description="Where Stripe answers.")

    crm: str = Field(default="salesforce", description="Name in the registry of CRMs; 'none' switches it off.")
    crm_since: AwareDatetime = Field(
        default=datetime(2000, 1, 1, tzinfo=UTC), description="Deals last changed before this are left alone."
    )
    salesforce_domain: str = Field(default="login", description="'login', 'test' or the My Domain prefix.")
    salesforce_username: str = ""
    salesforce_consumer_key: str = ""
    salesforce_private_key_file: Path | None = Field(default=None, description="PEM of the connected app's key.")
    salesforce_ca_file: Path | None = Field(default=None, description="The only trust anchor, for a local server.")
    salesforce_connect_to: str | None = Field(
        default=None, description="host:port to connect to instead of *.salesforce.com, for a local server."
    )

    erp: str = Field(default="beancount-file", description="Name in the registry of ERPs.")
    erp_folder: Path = Field(default=Path(".perennial/erp"), description="Where the file ERP keeps journals.")

    events_oldest_days: int = Field(
        default=400, ge=1, le=100_000, description="Events whose time lies further back wait in quarantine."
    )
    events_newest_hours: int = Field(
        default=24, ge=0, le=2_000_000, description="Events whose time lies further ahead wait in quarantine."
    )

    events_remembered_days: int | None = Field(
        default=None,
        ge=35,
        description="So long after its time an event is known again when it comes twice; for ever if it is not set.",
    )

    api_host: str = "127.0.0.1"
    api_port: int = 8080
    api_processes: int = Field(default=1, ge=1, le=64, description="Processes that serve the API on one port.")
    prometheus_multiproc_dir: Path | None = Field(
        default=None, description="Where these keep their figures; `perennial serve` sets it if there are several."
    )
    metrics_port: int = Field(default=0, description="Worker's Prometheus port; 0 for none.")
    temporal_ui_url: str | None = Field(default=None, description="Shown in links; the Temporal Web UI.")
    log_format: str = Field(default="json", pattern="^(json|console)$")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="OpenTelemetry collector; traces are exported when it is set."
    )

    @property
    def events_remembered(self) -> timedelta | None:
        return None if self.events_remembered_days is None else timedelta(days=self.events_remembered_days)

    @field_validator("events_remembered_days")
    @classmethod
    def _forgotten_events_are_far_back(cls, days: int | None, info: ValidationInfo) -> int | None:
        """What comes again and is not known any more must wait in quarantine, not count twice."""
        oldest = info.data.get("events_oldest_days")
        if days is not None and oldest is not None and days < oldest:
            raise ValueError(
                f"must be at least EVENTS_OLDEST_DAYS, {oldest}: an event that is not known any more would count twice"
            )
        return days
