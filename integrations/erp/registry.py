"""Which ERPs there are, by the name that the settings give. A new one is its file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from billing.errors import Refused
from integrations.erp import Erp
from integrations.erp.beancount_file import BeancountFile


class ErpSettings(Protocol):
    """The settings that any of the ERPs asks for."""

    @property
    def erp_folder(self) -> Path: ...


ERPS: Mapping[str, Callable[[ErpSettings], Erp]] = {
    "beancount-file": lambda settings: BeancountFile(settings.erp_folder),
}


def open_erp(name: str, settings: ErpSettings) -> Erp:
    """The ERP of that name; refused (code `erp_settings`) if there is none."""
    if name not in ERPS:
        raise Refused(
            f"There is no ERP {name!r}.", code="erp_settings", remedy=f"Set ERP to one of: {', '.join(ERPS)}."
        )
    return ERPS[name](settings)
