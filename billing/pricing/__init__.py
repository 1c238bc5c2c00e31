"""Pricing models: each file one frozen dataclass with a literal `kind` and a `charge`; this union names them all.

A further model is one file here and one name in `Price` (docs/PRICING.md shows how). A price is data: it is stored
whole and shown whole.
"""

from __future__ import annotations

from billing.pricing.capacity import Capacity
from billing.pricing.charged import Charged, Model, Step
from billing.pricing.cost_plus import CostPlus
from billing.pricing.dynamic import Dynamic
from billing.pricing.flat import Flat
from billing.pricing.formula import Formula, Quantity
from billing.pricing.graduated import Graduated
from billing.pricing.graduated_percentage import GraduatedPercentage, PercentTier
from billing.pricing.grouped import Grouped
from billing.pricing.matrix import Cell, Matrix
from billing.pricing.one_time import OneTime
from billing.pricing.package import Package
from billing.pricing.per_unit import PerUnit
from billing.pricing.percentage import Percentage
from billing.pricing.stairstep import Stair, Stairstep
from billing.pricing.tiers import Tier
from billing.pricing.volume import Volume

Price = (
    Flat
    | OneTime
    | PerUnit
    | Package
    | Graduated
    | Volume
    | Stairstep
    | Percentage
    | GraduatedPercentage
    | Dynamic
    | Matrix
    | Grouped
    | Capacity
    | CostPlus
    | Formula
)

__all__ = [
    "Capacity",
    "Cell",
    "Charged",
    "CostPlus",
    "Dynamic",
    "Flat",
    "Formula",
    "Graduated",
    "GraduatedPercentage",
    "Grouped",
    "Matrix",
    "Model",
    "OneTime",
    "Package",
    "PerUnit",
    "PercentTier",
    "Percentage",
    "Price",
    "Quantity",
    "Stair",
    "Stairstep",
    "Step",
    "Tier",
    "Volume",
]
