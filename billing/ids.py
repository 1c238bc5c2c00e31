"""Identifiers that follow from their cause, so that work done twice finds what it did before.

Ids that express a new intent are minted at the edge by whoever has the intent; this file only derives.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import date, datetime

Part = str | int | date | datetime


def derive(prefix: str, *cause: Part) -> str:
    """The id that belongs to `cause`: always the same, 26 characters of base32 (130 bits) behind `prefix_`.

    >>> derive("inv", "sub_1", "2026-01-01") == derive("inv", "sub_1", "2026-01-01")
    True
    """
    text = "\x1f".join(part.isoformat() if isinstance(part, date) else str(part) for part in cause)
    digest = hashlib.sha256(text.encode()).digest()
    return f"{prefix}_{base64.b32encode(digest).decode().lower()[:26]}"
