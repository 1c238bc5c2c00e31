"""Which payment gateways there are, by the name that the settings use, and what each takes from the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from billing.errors import Refused
from integrations.payments import PaymentGateway


class Secret(Protocol):
    """A setting that does not show itself when printed."""

    def get_secret_value(self) -> str: ...


class GatewaySettings(Protocol):
    """The settings that gateways read; the whole of `Settings` fits."""

    @property
    def stripe_api_key(self) -> Secret: ...
    @property
    def stripe_webhook_secret(self) -> Secret: ...
    @property
    def stripe_api_base(self) -> str: ...


def _stripe(settings: GatewaySettings) -> PaymentGateway:
    from integrations.payments.stripe import StripeGateway  # the SDK is loaded only where it is used

    return StripeGateway(
        settings.stripe_api_key.get_secret_value(),
        settings.stripe_webhook_secret.get_secret_value(),
        settings.stripe_api_base,
    )


GATEWAYS: Mapping[str, Callable[[GatewaySettings], PaymentGateway]] = {
    "stripe": _stripe,
}


def open_gateway(name: str, settings: GatewaySettings) -> PaymentGateway:
    """The gateway of that name, ready to use; no request is sent yet."""
    if name not in GATEWAYS:
        raise Refused(
            f"There is no payment gateway {name!r}.",
            code="unknown_gateway",
            remedy=f"Set PAYMENT_GATEWAY to one of: {', '.join(sorted(GATEWAYS))}.",
        )
    return GATEWAYS[name](settings)
