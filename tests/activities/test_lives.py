"""Random lives of a company: usage, corrections, names, rebuilds, policies, changes of terms, bills and answers.

Whatever happens in whatever order, usage is counted as a fold of all events says, every proof holds, the money that is
shown before a rebuild or an event is what late usage changes by, and in the end each window is billed once, at the
price of all its usage.

`make test` lives the same few lives each time; LIVES asks for so many others, which are longer, as `make storm` does.
The seed is printed and can be given: LIVES=1 SEED=7.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from models import afresh, rebuilding
from tests.activities.company import Company
from tests.activities.lives.checks import all_is_billed, all_is_counted, months_close
from tests.activities.lives.life import Life
from tests.activities.lives.races import Race
from tests.activities.lives.steps import draw_step, settle
from tests.models.test_slots import taken

LIVES = int(os.environ.get("LIVES", "0"))
SEED = int(os.environ.get("SEED", str(random.randrange(10**6))))
SEEDS = range(SEED, SEED + LIVES) if LIVES else (8, 13)
"""In these two, rebuilds and events change what was billed, people bill and waive, minimums shrink and months go."""
STEPS, ROUNDS = (150, 90) if LIVES else (60, 20)
EVENTS_AT_ONCE = 9
"""Of a rebuild, so that much happens before it has counted all."""


@pytest.mark.parametrize("no", range(len(SEEDS)))
def test_usage_is_counted_and_billed_once_whatever_happens(
    no: int, company: Company, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hold slots of totals all the while, so that these lie in several."""
    monkeypatch.setattr(rebuilding, "EVENTS_AT_ONCE", EVENTS_AT_ONCE)
    monkeypatch.setattr(afresh, "EVENTS_AT_ONCE", EVENTS_AT_ONCE)
    print(f"seed {SEEDS[no]}")
    life, busy = Life(company, SEEDS[no]), random.Random(SEEDS[no])
    for turn in range(STEPS):
        do = draw_step(life)
        print(f"{turn:4} {life.day} {do.__name__}")
        with taken(database_url, busy.sample(range(3), busy.randint(0, 3))):
            do(life)
        if turn % 15 == 14:
            all_is_counted(life)
    comes_to_a_good_end(life)


@pytest.mark.parametrize("no", range(max(LIVES, 1)))
def test_usage_is_counted_and_billed_once_by_whoever_comes_first(
    no: int, company: Company, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several do something at the same moment, again and again."""
    monkeypatch.setattr(rebuilding, "EVENTS_AT_ONCE", EVENTS_AT_ONCE)
    monkeypatch.setattr(afresh, "EVENTS_AT_ONCE", EVENTS_AT_ONCE)
    print(f"seed {SEEDS[no]}")
    race = Race(company, SEEDS[no])
    for turn in range(ROUNDS):
        race.round(threads)
        if turn % 10 == 9:
            all_is_counted(race)
    comes_to_a_good_end(race)


def comes_to_a_good_end(life: Life) -> None:
    settle(life)
    all_is_counted(life)
    all_is_billed(life)
    months_close(life, "2026-01", "2026-02")
