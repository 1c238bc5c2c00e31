"""Every story in stories/ is told from its first to its last step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.billing.story import tell

STORIES = sorted(Path(__file__).parent.joinpath("stories").glob("*.toml"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    tell(path)


def test_stories_were_found() -> None:
    assert len(STORIES) >= 40
