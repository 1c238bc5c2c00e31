"""How many statements PostgreSQL is sent: it writes each to its log meanwhile, with who sent it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

_ON = {"log_statement": "all", "log_line_prefix": "%a|", "log_parameter_max_length": "0"}


class Statements:
    """Those that were sent under one name (`application_name`), BEGIN and COMMIT among them."""

    def __init__(self, log: Path, sender: str) -> None:
        self._log, self._begun = log, log.stat().st_size
        self._said = re.compile(rf"^{re.escape(sender)}\|LOG:  (?:statement|execute [^:]*): ".encode(), re.MULTILINE)

    def many(self) -> int:
        """Until now."""
        with self._log.open("rb") as log:
            log.seek(self._begun)
            return len(self._said.findall(log.read()))


@contextmanager
def logged(url: str, log: Path, sender: str) -> Iterator[Statements]:
    """Statements are written down as long as it is open; that takes some microseconds for each."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in _ON.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), value))
        connection.execute("select pg_reload_conf(), pg_sleep(0.2)")
        try:
            yield Statements(log, sender)
        finally:
            for name in _ON:
                connection.execute(sql.SQL("alter system reset {}").format(sql.Identifier(name)))
            connection.execute("select pg_reload_conf(), pg_sleep(0.2)")
