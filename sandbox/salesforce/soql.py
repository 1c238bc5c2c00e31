"""Reads a SOQL query and writes the SQL that answers it.

Known: field lists with parent paths, `COUNT()`, `WHERE` with comparisons, `LIKE`, `IN`, `AND`, `OR`, `NOT` and
parentheses, `ORDER BY`, `LIMIT`, `OFFSET`. Anything else is a MALFORMED_QUERY. Grammar and rules: the SOQL and
SOSL Reference; among them that `AND` and `OR` do not mix without parentheses, that dates stand without quotes, and
that nulls sort first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from sandbox.salesforce.objects import OBJECTS, ApiError, Field, ObjectType, Value

_TOKENS = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<dateTime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
  | (?P<date>\d{4}-\d\d-\d\d)
  | (?P<double>[+-]?\d+(?:\.\d+)?)
  | (?P<name>[A-Za-z]\w*(?:\.[A-Za-z]\w*)*)
  | (?P<sign><=|>=|!=|<>|[=<>(),])
  | (?P<end>$)
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_COMPARISONS = {"=": "IS", "!=": "IS NOT", "<>": "IS NOT", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked for. `paths` name the columns of an answer and `columns` are the same in SQL; none for `COUNT()`.

    `source` is the SQL from FROM onwards, in which the object is called `this`.
    """

    kind: ObjectType
    paths: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]
    source: str
    parameters: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind in ("name", "sign") else ""


def read(text: str) -> Query:
    """ApiError MALFORMED_QUERY, INVALID_TYPE or INVALID_FIELD if it cannot be answered."""
    return _Parser(text).query()


def stamp(moment: datetime) -> str:
    """How Salesforce writes a moment: UTC with milliseconds, `2026-03-01T12:00:00.000+0000`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._split(text)
        self.at = 0
        self.parameters: list[Value] = []
        self.parents: dict[str, Field] = {}

    def query(self) -> Query:
        self.expect("SELECT")
        wanted = self.field_list()
        self.expect("FROM")
        self.kind = self.object_type()
        columns = [self.column(path) for path in wanted]
        where = self.condition() if self.take("WHERE") else "1"
        order = self.order() if self.take("ORDER") else ""
        limit = "".join(f" {word} {self.number()}" for word in ("LIMIT", "OFFSET") if self.take(word))
        if self.token.kind != "end":
            self.unexpected()
        return Query(
            self.kind,
            tuple(path for _, path in columns),
            tuple(column for column, _ in columns),
            f"FROM {self.kind.name} AS this{self.joins()} WHERE {where}{order}{limit}",
            tuple(self.parameters),
        )

    # What follows reads one piece each, in the order in which a query has them.

    def field_list(self) -> list[str]:
        if self.take("COUNT"):
            self.expect("(")
            self.expect(")")
            return []
        return self.separated(self.name)

    def object_type(self) -> ObjectType:
        name = self.name()
        kind = OBJECTS.get(name.lower())
        if kind is None:
            self.fail(
                "INVALID_TYPE",
                f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to "
                "append the '__c' after the entity name. Please reference your WSDL or the describe call for the "
                "appropriate names.",
            )
        return kind

    def column(self, path: str) -> tuple[str, tuple[str, ...]]:
        sql, field, relationship = self.resolve(path)
        return sql, (relationship, field.name) if relationship else (field.name,)

    def resolve(self, path: str) -> tuple[str, Field, str]:
        """The SQL column, the field, and the relationship it is reached by (empty for the object's own)."""
        *steps, name = path.split(".")
        kind, alias = self.kind, "this"
        if len(steps) > 1:
            self.fail("MALFORMED_QUERY", f"The sandbox follows one relationship, not {len(steps)}.")
        if steps and steps[0].lower() != kind.name.lower():
            reference = kind.parent(steps[0])
            if reference is None or reference.parent is None or reference.relationship is None:
                self.fail("INVALID_FIELD", f"Didn't understand relationship '{steps[0]}' in field path.")
            alias, kind = reference.relationship, OBJECTS[reference.parent.lower()]
            self.parents[alias] = reference
        field = kind.field(name)
        if field is None:
            self.fail(
                "INVALID_FIELD",
                f"No such column '{name}' on entity '{kind.name}'. If you are attempting to use a custom field, be "
                "sure to append the '__c' after the custom field name. Please reference your WSDL or the describe "
                "call for the appropriate names.",
            )
        return f"{alias}.{field.name}", field, "" if alias == "this" else alias

    def joins(self) -> str:
        return "".join(
            f" LEFT JOIN {field.parent} AS {alias} ON {alias}.Id = this.{field.name}"
            for alias, field in self.parents.items()
        )

    def condition(self) -> str:
        parts = [self.term()]
        for word in ("AND", "OR"):
            while self.take(word):
                parts.append(self.term())
            if len(parts) > 1:
                return f"({f' {word} '.join(parts)})"
        return parts[0]

    def term(self) -> str:
        if self.take("NOT"):
            return f"(NOT {self.term()})"
        if self.take("("):
            inner = self.condition()
            self.expect(")")
            return f"({inner})"
        column, field, _ = self.resolve(self.name())
        if self.take("LIKE"):
            return f"{column} LIKE {self.literal(field)}"
        negated = "NOT " if self.take("NOT") else ""
        if self.take("IN"):
            self.expect("(")
            values = self.separated(lambda: self.literal(field))
            self.expect(")")
            return f"{column} {negated}IN ({', '.join(values)})"
        comparison = _COMPARISONS.get(self.token.text)
        if negated or comparison is None:
            self.unexpected()
        self.at += 1
        return f"{column} {comparison} {self.literal(field)}"

    def literal(self, field: Field) -> str:
        token = self.token
        if token.word == "NULL":
            self.parameters.append(None)
        elif token.kind == ("string" if field.kind in ("id", "reference") else field.kind):
            self.parameters.append(_value(token))
        elif token.kind in ("string", "double", "date", "dateTime"):
            quotes = "" if field.kind in ("string", "id", "reference") else "not "
            self.fail(
                "INVALID_FIELD",
                f"value of filter criterion for field '{field.name}' must be of type {field.kind} and should "
                f"{quotes}be enclosed in quotes",
            )
        else:
            self.unexpected()
        self.at += 1
        return "?"

    def order(self) -> str:
        self.expect("BY")
        return " ORDER BY " + ", ".join(self.separated(self.order_key))

    def order_key(self) -> str:
        column, _, _ = self.resolve(self.name())
        direction = "DESC" if self.take("DESC") else "ASC"
        self.take("ASC")
        nulls = "FIRST"
        if self.take("NULLS"):
            nulls = "LAST" if self.take("LAST") else "FIRST"
            self.take("FIRST")
        return f"{column} {direction} NULLS {nulls}"

    def number(self) -> int:
        if not self.token.text.isdigit():
            self.unexpected()
        self.at += 1
        return int(self.tokens[self.at - 1].text)

    # Tokens.

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self, word: str) -> bool:
        """Step over `word` if it comes next."""
        found = self.token.word == word
        self.at += found
        return found

    def expect(self, word: str) -> None:
        if not self.take(word):
            self.unexpected()

    def name(self) -> str:
        if self.token.kind != "name" or self.token.word in ("FROM", "WHERE"):
            self.unexpected()
        self.at += 1
        return self.tokens[self.at - 1].text

    def separated(self, one: Callable[[], str]) -> list[str]:
        found = [one()]
        while self.take(","):
            found.append(one())
        return found

    def _split(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = _TOKENS.match(text, at)
            if match is None or match.lastgroup is None:
                self.fail("MALFORMED_QUERY", f"line 1:{at} no viable alternative at character '{text[at]}'")
            tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return tokens

    def unexpected(self) -> NoReturn:
        self.fail("MALFORMED_QUERY", f"unexpected token: '{self.token.text or '<EOF>'}'")

    def fail(self, code: str, message: str) -> NoReturn:
        raise ApiError(400, code, f"\n{self.text}\n^\nERROR at Row:1:Column:1\n{message}")


def _value(token: _Token) -> Value:
    match token.kind:
        case "string":
            return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token.text[1:-1])
        case "double":
            return float(token.text)
        case "dateTime":
            return stamp(datetime.fromisoformat(token.text))
    return token.text
