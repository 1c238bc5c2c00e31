"""Which CRMs there are, by the name that the settings give. A new one is its file and one line here.

`none` is no CRM: a stand-in that never has a deal and forgets what it is told, so that no caller needs an `if`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from billing.errors import Refused
from integrations.crm import Crm, Deal, DealStatus, UnreadableDeal


class CrmSettings(Protocol):
    """The settings that any of the CRMs asks for."""

    @property
    def salesforce_domain(self) -> str: ...
    @property
    def salesforce_username(self) -> str: ...
    @property
    def salesforce_consumer_key(self) -> str: ...
    @property
    def salesforce_private_key_file(self) -> Path | None: ...
    @property
    def salesforce_ca_file(self) -> Path | None: ...
    @property
    def salesforce_connect_to(self) -> str | None: ...


def _salesforce(settings: CrmSettings) -> Crm:
    from integrations.crm.salesforce import SalesforceCrm  # Takes half a second, which nobody else should wait for.

    key_file = settings.salesforce_private_key_file
    if key_file is None or not key_file.is_file():
        raise Refused(
            f"There is no private key for Salesforce at {key_file}.",
            code="crm_settings",
            remedy="Set SALESFORCE_PRIVATE_KEY_FILE to the PEM of the connected app's key, or CRM to none.",
        )
    return SalesforceCrm(
        domain=settings.salesforce_domain,
        username=settings.salesforce_username,
        consumer_key=settings.salesforce_consumer_key,
        private_key=key_file.read_text(),
        ca_file=settings.salesforce_ca_file,
        connect_to=settings.salesforce_connect_to,
    )


CRMS: Mapping[str, Callable[[CrmSettings], Crm]] = {"salesforce": _salesforce}


def open_crm(name: str, settings: CrmSettings) -> Crm:
    """The CRM of that name, without a call to it yet.

    Refused (code `crm_settings`) if there is none or one of its settings is missing.
    """
    if name == "none":
        return NoCrm()
    if name not in CRMS:
        raise Refused(
            f"There is no CRM {name!r}.", code="crm_settings", remedy=f"Set CRM to one of: {', '.join(CRMS)}, none."
        )
    return CRMS[name](settings)


class NoCrm:
    """For companies that start their contracts otherwise."""

    def closed_won(self, since: datetime) -> Iterator[Deal | UnreadableDeal]:
        return iter(())

    def write_back(self, status: DealStatus) -> None:
        """Nobody to tell."""
