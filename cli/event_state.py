"""How far an import got, on disk: what a file is known by, what became of its rows, and those that were refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from perennial_client import Json
from perennial_client.encoding import dumps
from pydantic import TypeAdapter

from billing.errors import Refused

Outcome = Literal["accepted", "duplicate", "conflict", "quarantined", "invalid"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_FIRST_WORDS = b'{"line":'
"""Of every refused row."""


@dataclass(frozen=True, slots=True)
class Progress:
    """So many rows were answered, and so they were. `derived`: ids were made up for some, from where they stand.

    `file` and `how` are digests of the file and of how it is read; `refused_bytes` is how much of the file of refused
    rows belongs to the rows that were answered.
    """

    file: str
    how: str
    rows: int = 0
    counts: Mapping[Outcome, int] = field(default_factory=dict)
    refused_bytes: int = 0
    derived: bool = False
    finished: bool = False

    @property
    def refused(self) -> int:
        return self.count("conflict") + self.count("invalid")

    def count(self, outcome: Outcome) -> int:
        return self.counts.get(outcome, 0)


class ImportState:
    """The state of the import of one file, in `state`, and its refused rows, in `refused`.

    Refused rows are on disk before the state says so; what a killed import wrote beyond that is cut off.
    """

    def __init__(self, state: Path, refused: Path) -> None:
        self._state, self.refused = state, refused
        self._begun = False

    def begin(self, file: Path, how: str, *, restart: bool) -> Progress:
        """Where to go on: at the beginning, if the file, or how it is read, is another one than before.

        Nothing on disk changes by that: of a run that fails before it has sent anything, nothing is left.
        """
        if len({path.resolve() for path in (file, self._state, self.refused)}) < 3:
            raise Refused(f"{file} would be overwritten.", remedy="Say --state and --refused with paths of their own.")
        before = None if restart else self._read()
        now = Progress(_digest(file), how)
        if before and (before.file, before.how) == (now.file, now.how):
            now = before
        elif before and before.file != now.file and before.derived:
            raise Refused(
                f"{file} was changed since {before.rows:,} of its rows {'was' if before.rows == 1 else 'were'} sent,"
                " and not all have ids of their own.",
                remedy="Rows that have moved would count again. If rows were only corrected where they stand, or added"
                " at the end, say --restart. Else import the changed rows from a file of their own.",
            )
        return replace(now, refused_bytes=self._known_of_refused(now.refused_bytes))

    def advance(self, before: Progress, after: Progress, refused: Iterable[Mapping[str, Json]]) -> Progress:
        """Remember refused rows, and then that these rows were answered."""
        if not self._begun:
            self._cut(before.refused_bytes)
            self._begun = True
        lines = "".join(f"{dumps(one)}\n" for one in refused).encode()
        if lines:
            with _writing(self.refused), self.refused.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        after = replace(after, refused_bytes=before.refused_bytes + len(lines))
        with _writing(self._state):
            new = self._state.with_name(f"{self._state.name}.new")
            new.write_text(json.dumps(asdict(after), indent=1) + "\n")
            new.replace(self._state)
        return after

    def _read(self) -> Progress | None:
        """None if there is none; Refused if something else is there, so that it is not overwritten."""
        try:
            return TypeAdapter(Progress).validate_json(self._state.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            remedy = "Say --state with another path, or --restart to overwrite it; nothing counts twice."
            raise Refused(f"{self._state} is not the state of an import: {reason}.", remedy=remedy) from error

    def _known_of_refused(self, length: int) -> int:
        """How much there is of the refused rows that are remembered. Refused if it is another kind of file."""
        with _writing(self.refused):
            if not self.refused.exists():
                return 0
            size = self.refused.stat().st_size
            with self.refused.open("rb") as file:
                if file.read(len(_FIRST_WORDS)) != _FIRST_WORDS[:size]:
                    raise Refused(f"{self.refused} holds something else.", remedy="Say --refused with another path.")
            return min(length, size)

    def _cut(self, length: int) -> None:
        """Leave the refused rows that are remembered."""
        with _writing(self.refused):
            if not length:
                self.refused.unlink(missing_ok=True)
            elif self.refused.stat().st_size > length:
                os.truncate(self.refused, length)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "Name other places: --state for how far it got, --refused for the rows that are refused."
        raise Refused(f"{path} cannot be written: {error.strerror}.", remedy=remedy) from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.", remedy="Name a file that is there.") from error
