"""`python -m cli`: the console script without its installation."""

from __future__ import annotations

from cli import main

if __name__ == "__main__":
    main()
