"""YAML read as text with lines: scalars stay the text they are, and what files do not need is refused.

Only mappings, lists and scalars of one document are read; `null` and nothing are None. There are no anchors, aliases
and tags, and no key stands twice. What the text means (a number, a day) is for whoever knows the field to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import Reader

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"
Path: TypeAlias = tuple[str | int, ...]
DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Wrong:
    """What cannot be read, at which line (counted from 1) and place."""

    line: int
    path: Path
    reason: str


@dataclass(slots=True)
class Tree:
    """What a document says, the line at which each place begins, and what could not be read."""

    value: Value = None
    lines: dict[Path, int] = field(default_factory=dict)
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def unreadable(self) -> bool:
        """Whether nothing can be said about what it was to say."""
        return bool(self.wrong) and self.value is None


def read_yaml(text: str) -> Tree:
    """The one document of a text; nothing is raised, what is wrong is in the tree."""
    tree = Tree(lines={(): 1})
    if odd := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        tree.wrong.append(Wrong(line, (), f"the character {odd.group()!r} cannot stand in YAML"))
        return tree
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    try:
        _Builder(tree, events).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        tree.wrong.append(Wrong(int(mark.line) + 1 if mark else 1, (), f"is not YAML: {said}"))
    except _TooDeep as error:
        tree.wrong.append(Wrong(error.line, (), f"is nested deeper than {DEEPEST}"))
    return tree


class _TooDeep(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Builder:
    """Makes the tree of a stream of events."""

    def __init__(self, tree: Tree, events: Iterator[Event]) -> None:
        self.tree = tree
        self.events = events

    def document(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, StreamEndEvent):
                return
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._wrong(event, (), "a file holds one document")
                    return
                self.tree.value = self._value(next(self.events), ())

    def _value(self, event: Event, path: Path) -> Value:
        self.tree.lines.setdefault(path, _line(event))
        if isinstance(event, AliasEvent):
            self._wrong(event, path, "aliases are not read; write it out")
            return None
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        if event.anchor:
            self._wrong(event, path, "anchors are not read; write it out where it is needed")
        if event.tag:
            self._wrong(event, path, f"the tag {event.tag!r} is not read")
        if isinstance(event, ScalarEvent):
            return None if not event.style and event.value in ("", "null") else str(event.value)
        if len(path) > DEEPEST:
            raise _TooDeep(_line(event))
        return self._list(path) if isinstance(event, SequenceStartEvent) else self._mapping(path)

    def _list(self, path: Path) -> Value:
        found: list[Value] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            found.append(self._value(event, (*path, len(found))))
        return found

    def _mapping(self, path: Path) -> Value:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = event.value if isinstance(event, ScalarEvent) else None
            if not key:
                self._wrong(event, path, "a key must be a word")
                self._value(event, (*path, ""))
                self._value(next(self.events), (*path, ""))
                continue
            place = (*path, key)
            if key in found:
                self._wrong(event, place, f"stands here a second time; the first is in line {self.tree.lines[place]}")
                self._value(next(self.events), (*place, ""))
                continue
            self.tree.lines[place] = _line(event)
            found[key] = self._value(next(self.events), place)
        return found

    def _wrong(self, event: Event, path: Path, reason: str) -> None:
        self.tree.wrong.append(Wrong(_line(event), path, reason))


def _line(event: Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1
