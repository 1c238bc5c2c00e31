"""`python -m sandbox.clear FOLDER ...`: stop the stacks in these folders and remove what they have left there."""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox.running import clear, stop_running


def main() -> None:
    """Clear each folder named, and the demo's folder inside it."""
    for folder in map(Path, sys.argv[1:]):
        for each in (folder / "demo", folder):
            stop_running(each)
            clear(each)


if __name__ == "__main__":
    main()
