"""The records of the local organisation, in SQLite in memory, and the log of what was written to them.

Ids come from a sequence, so that a run repeats. `SystemModstamp` grows with every write, also with one that changes no
value: that is what Salesforce does, and what a poller has to live with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from sandbox.salesforce import API
from sandbox.salesforce.objects import OBJECTS, ApiError, Field, ObjectType, Value, checked
from sandbox.salesforce.soql import Query, stamp

Record = dict[str, object]
_COLUMN_TYPES = {"double": "REAL", "string": "TEXT COLLATE NOCASE"}


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was committed. `changed` holds the fields whose value is another than before."""

    object: str
    id: str
    kind: str
    changed: dict[str, Value]


class Records:
    """One thread at a time; whoever answers requests holds a lock."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._last_write = datetime.min.replace(tzinfo=UTC)
        self._made = 0
        self.writes: list[Write] = []
        for kind in OBJECTS.values():
            columns = ", ".join(f"{f.name} {_COLUMN_TYPES.get(f.kind, 'TEXT')}" for f in kind.fields)
            self._database.execute(f"CREATE TABLE {kind.name} ({columns}, PRIMARY KEY (Id))")

    def close(self) -> None:
        self._database.close()

    def create(self, kind: ObjectType, values: Mapping[str, object]) -> str:
        stored = checked(kind, values, creating=True)
        self._check_references(kind, stored)
        self._made += 1
        # Eighteen characters; the last three encode which of the others are capitals, and digits have no case.
        record_id = f"{kind.prefix}{self._made:012d}AAA"
        now = self._next_stamp()
        row = {"Id": record_id, "CreatedDate": now, "LastModifiedDate": now, "SystemModstamp": now, **stored}
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT INTO {kind.name} ({', '.join(row)}) VALUES ({marks})", [*row.values()])
        self.writes.append(Write(kind.name, record_id, "create", stored))
        return record_id

    def update(self, kind: ObjectType, record_id: str, values: Mapping[str, object]) -> None:
        stored = checked(kind, values, creating=False)
        self._check_references(kind, stored)
        before = self._row(kind, record_id)
        now = self._next_stamp()
        row = {**stored, "LastModifiedDate": now, "SystemModstamp": now}
        self._database.execute(
            f"UPDATE {kind.name} SET {', '.join(f'{name} = ?' for name in row)} WHERE Id = ?",
            [*row.values(), before["Id"]],
        )
        changed = {name: value for name, value in stored.items() if before[name] != value}
        self.writes.append(Write(kind.name, before["Id"], "update", changed))

    def upsert(self, kind: ObjectType, field: Field, key: str, values: Mapping[str, object]) -> tuple[str, bool]:
        """The record whose external id is `key`, made if there is none. Returns its id and whether it was made."""
        found = self._database.execute(f"SELECT Id FROM {kind.name} WHERE {field.name} = ?", [key]).fetchall()
        if len(found) > 1:
            raise Ambiguous([_url(kind, row["Id"]) for row in found])
        if not found:
            return self.create(kind, {**values, field.name: key}), True
        self.update(kind, found[0]["Id"], values)
        return found[0]["Id"], False

    def get(self, kind: ObjectType, record_id: str, fields: Sequence[str] = ()) -> Record:
        """The whole record, or only `fields` of it."""
        row = self._row(kind, record_id)
        wanted = [self._known(kind, name) for name in fields] or [field.name for field in kind.fields]
        return {"attributes": _attributes(kind, row["Id"]), **{name: row[name] for name in wanted}}

    def every(self, kind: ObjectType) -> list[Record]:
        """All records in the order in which they were made."""
        ids = self._database.execute(f"SELECT Id FROM {kind.name} ORDER BY Id").fetchall()
        return [self.get(kind, row["Id"]) for row in ids]

    def count(self, query: Query) -> int:
        (count,) = self._database.execute(f"SELECT COUNT(*) {query.source}", query.parameters).fetchone()
        return int(count)

    def select(self, query: Query) -> list[Record]:
        """Records as the query resource shows them: parents nested, each with its attributes; null without one."""
        parents = {path[0]: field for path in query.paths if len(path) > 1 if (field := query.kind.parent(path[0]))}
        columns = ["this.Id", *query.columns, *(f"this.{field.name}" for field in parents.values())]
        rows = self._database.execute(f"SELECT {', '.join(columns)} {query.source}", query.parameters).fetchall()
        return [_shown(query, parents, tuple(row)) for row in rows]

    def log(self) -> list[dict[str, object]]:
        return [asdict(write) for write in self.writes]

    def _row(self, kind: ObjectType, record_id: str) -> sqlite3.Row:
        """By the id of 18 characters or its first 15."""
        full = record_id if len(record_id) == 18 else f"{record_id}AAA"
        row: sqlite3.Row | None = self._database.execute(f"SELECT * FROM {kind.name} WHERE Id = ?", [full]).fetchone()
        if row is None:
            raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
        return row

    def _known(self, kind: ObjectType, name: str) -> str:
        field = kind.field(name)
        if field is None:
            raise ApiError(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
        return field.name

    def _check_references(self, kind: ObjectType, values: Mapping[str, Value]) -> None:
        for field in kind.fields:
            target = values.get(field.name)
            if field.parent is None or target is None:
                continue
            try:
                self._row(OBJECTS[field.parent.lower()], str(target))
            except ApiError as missing:
                raise ApiError(
                    400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [field.name]
                ) from missing

    def _next_stamp(self) -> str:
        """Now, and at least a millisecond after the write before."""
        now = datetime.now(UTC)
        self._last_write = max(now, self._last_write + timedelta(milliseconds=1))
        return stamp(self._last_write)


class Ambiguous(Exception):
    """An external id that several records have; answered with status 300, which is no error."""

    def __init__(self, urls: list[str]) -> None:
        super().__init__(f"{len(urls)} records")
        self.urls = urls


def _shown(query: Query, parents: Mapping[str, Field], row: tuple[Value, ...]) -> Record:
    """One row: its id first, then the columns of the query, then the ids of the parents."""
    own, *rest = row
    values, parent_ids = rest[: len(query.paths)], dict(zip(parents, rest[len(query.paths) :], strict=True))
    record: Record = {"attributes": _attributes(query.kind, str(own))}
    nested: dict[str, Record] = {}
    for path, value in zip(query.paths, values, strict=True):
        if len(path) == 1:
            record[path[0]] = value
            continue
        relationship, name = path
        parent_id = parent_ids[relationship]
        if parent_id is None:
            record[relationship] = None
            continue
        if relationship not in nested:
            kind = OBJECTS[str(parents[relationship].parent).lower()]
            record[relationship] = nested[relationship] = {"attributes": _attributes(kind, str(parent_id))}
        nested[relationship][name] = value
    return record


def _attributes(kind: ObjectType, record_id: str) -> dict[str, str]:
    return {"type": kind.name, "url": _url(kind, record_id)}


def _url(kind: ObjectType, record_id: str) -> str:
    return f"{API}/sobjects/{kind.name}/{record_id}"
