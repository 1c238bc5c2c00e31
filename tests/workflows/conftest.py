"""The stage on which workflows are tried: a whole house, and ways to look behind it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.stage import Stage


@pytest.fixture
def stage(house: Any) -> Stage:
    return Stage(house)
