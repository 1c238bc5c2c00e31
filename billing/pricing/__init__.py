"""Pricing models: each file one frozen dataclass with a literal `kind` and a `charge`; this union names them all.

A further model is one file here and one name in `Price`. A price is data: it is stored whole and shown whole.
"""

from __future__ import annotations

from billing.pricing.charged import Charged, Step
from billing.pricing.flat import Flat
from billing.pricing.graduated import Graduated, Tier
from billing.pricing.per_unit import PerUnit

Price = Flat | PerUnit | Graduated

__all__ = ["Charged", "Flat", "Graduated", "PerUnit", "Price", "Step", "Tier"]
