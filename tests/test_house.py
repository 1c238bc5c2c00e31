"""The rules of the house, read off the source with `ast`: nothing of the product is imported, nothing is run.

A rule is a function from one file to the faults in it, each with its line. house_rules.toml says what to do about
them, and gives examples of what must be found and what must not, so that no rule can pass by never looking.
"""

from __future__ import annotations

import ast
import gc
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = Path(__file__).with_name("house_rules.toml")

ROOMS = ("billing", "models", "integrations", "activities", "workflows", "api", "web")
# Who may import what of ours, besides itself. The roots are the last ones; tests and benchmarks import anything.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "billing": (),
    "models": ("billing",),
    "integrations": ("billing",),
    "activities": ("billing", "models", "integrations"),
    "workflows": ("billing", "activities"),
    "api": ("billing", "models", "workflows"),
    "web": ("billing", "models", "workflows", "api.access"),
    "sandbox": (),
    "perennial_client": (),
    "settings": (),
    "observability": ("settings",),
    "api.webhooks": ("api", "billing", "models", "workflows", "integrations"),
    "api.app": (*ROOMS, "settings", "observability"),
    "worker": (*ROOMS, "settings", "observability"),
    "cli": (*ROOMS, "settings", "observability", "sandbox", "worker", "api.app", "perennial_client"),
}
# The rooms that name their third parties, and what no one should look for in a room: tables and HTTP in a workflow,
# a clock, chance, input and output in the engine.
THIRD_PARTIES: dict[str, tuple[str, ...]] = {"billing": (), "perennial_client": ("httpx",)}
NOT_IN = {
    "workflows": "sqlmodel sqlalchemy psycopg httpx requests".split(),
    "billing": "io logging math os pathlib random secrets socket subprocess sys tempfile threading time uuid".split(),
}
NOT_CALLED_IN_THE_ENGINE = {"open", "print", "input", "datetime.now", "datetime.today", "date.today"}
SDKS = {"stripe", "simple_salesforce"}
FORBIDDEN_NAMES = {"utils", "common", "core", "helpers", "services", "base", "manager"}
AT_THE_TOP = {*ROOMS, "sandbox", "clients", "tests", "benchmarks", "docs", ".ci", "cli"} | set(
    "worker.py settings.py observability.py pyproject.toml constraints.txt Makefile README.md LICENSE Dockerfile"
    " docker-compose.yml .gitignore .dockerignore".split()
)
MADE_BY_TOOLS = {".git", ".env", "dist", "build"}
MAX_FILE, MAX_FUNCTION = 400, 60


@dataclass(frozen=True)
class File:
    """One file: its path below the project, its text, and its syntax if it is Python (else an empty module)."""

    path: PurePosixPath
    text: str
    nodes: tuple[ast.AST, ...] = field(repr=False)

    @property
    def room(self) -> str:
        """The room, or the module if it has rules of its own."""
        parts = self.path.with_suffix("").parts
        if parts[:2] == ("clients", "python"):
            return "perennial_client"
        return ".".join(parts[:2]) if ".".join(parts[:2]) in MAY_IMPORT else parts[0]

    @property
    def is_product(self) -> bool:
        return self.room in MAY_IMPORT


Fault = str
Rule = Callable[[File], Iterator[Fault]]


def parsed(path: str, text: str) -> File:
    """No garbage is collected meanwhile: on Python 3.11 that may let another thread parse in between, for a traceback
    say, and then this one fails (python/cpython#106905).
    """
    gc.disable()
    try:
        tree = ast.parse(text if path.endswith(".py") else "")
    finally:
        gc.enable()
    return File(PurePosixPath(path), text, tuple(ast.walk(tree)))


@cache
def explained() -> dict[str, Any]:
    return tomllib.loads(EXPLAINED.read_text())


@cache
def project() -> tuple[File, ...]:
    """Every text file of the project that people write. Their half a million nodes stay, and no garbage is sought among
    them: that takes seconds, in which no workflow of another test gets on.
    """
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()} | MADE_BY_TOOLS
    found = []
    waiting = [path for path in ROOT.iterdir() if path.name not in ignored]
    while waiting:
        path = waiting.pop()
        if path.is_dir():
            waiting += [p for p in path.iterdir() if p.name not in ignored and not p.name.endswith(".egg-info")]
        elif path.suffix in {".py", ".sql", ".toml", ".typ", ".md", ".yml", ".html", ".css"} or path.parent == ROOT:
            found.append(parsed(path.relative_to(ROOT).as_posix(), path.read_text()))
    gc.freeze()
    return tuple(sorted(found, key=lambda file: file.path))


def imports(file: File) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported from elsewhere, `from a import b` as 'a.b'."""
    for node in file.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def called(node: ast.AST) -> str:
    """The dotted name of what is called, such as 'datetime.now'; empty if it is something else."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


# The rules, from the shape of the house to the words in it.


def doors(file: File) -> Iterator[Fault]:
    if not file.is_product:
        return
    for line, name in imports(file):
        target = next((t for t in ("api.app", "api.access") if f"{name}.".startswith(f"{t}.")), name.split(".")[0])
        mine = target.split(".")[0] == file.room.split(".")[0] and target != "api.app"
        if target.split(".")[0] in MAY_IMPORT and not mine and target not in MAY_IMPORT[file.room]:
            allowed = ", ".join(MAY_IMPORT[file.room]) or "nothing of ours"
            yield f"{line}: {file.room} imports {name}; it may import {allowed}"


def strangers(file: File) -> Iterator[Fault]:
    for line, name in imports(file):
        top = name.split(".")[0]
        known = {*sys.stdlib_module_names, *MAY_IMPORT, *THIRD_PARTIES.get(file.room, (top,))}
        if top in NOT_IN.get(file.room, ()) or top not in known:
            yield f"{line}: {file.room} imports {name}"


def engine_is_pure(file: File) -> Iterator[Fault]:
    if file.room == "billing":
        for node in file.nodes:
            if isinstance(node, ast.Call) and called(node) in NOT_CALLED_IN_THE_ENGINE:
                yield f"{node.lineno}: calls {called(node)}"


def engine_has_no_float(file: File) -> Iterator[Fault]:
    if file.room != "billing":
        return
    for node in file.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"{node.lineno}: the literal {node.value}"
        elif isinstance(node, ast.Name) and node.id == "float":
            yield f"{node.lineno}: the name float"


def settings_are_read_by_roots(file: File) -> Iterator[Fault]:
    """`doors` keeps `settings` to the roots; this keeps everyone else from going round it."""
    if not file.is_product or file.room == "sandbox":
        return
    written = [n.value for n in file.nodes if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
    for node in file.nodes:
        if not isinstance(node, ast.Attribute) or node in written:
            continue
        if ast.unparse(node) in {"os.environ", "os.getenv", "os.environb"}:
            yield f"{node.lineno}: reads {ast.unparse(node)}"
    yield from (f"{line}: imports {name}" for line, name in imports(file) if name in {"os.environ", "os.getenv"})


def vendors(file: File) -> Iterator[Fault]:
    """Neighbours' names are those of the files in integrations/."""
    if not file.is_product or file.room in {"integrations", "sandbox", "settings"}:
        return
    yield from (f"{line}: imports {name}" for line, name in imports(file) if name.split(".")[0] in SDKS)
    for node in file.nodes:
        compared: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        for side in compared:
            words = {c.value for c in ast.walk(side) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            yield from (f"{side.lineno}: compares with {word!r}" for word in sorted(words & neighbours()))


@cache
def neighbours() -> frozenset[str]:
    files = [path.stem for path in (ROOT / "integrations").glob("*/*.py") if path.stem not in {"__init__", "registry"}]
    return frozenset(files) | {name.replace("_", "-") for name in files}


def activities_take_one_command(file: File) -> Iterator[Fault]:
    for node in file.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if any(ast.unparse(d).split("(")[0] in {"activity.defn", "defn"} for d in node.decorator_list):
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs) if a.arg != "self"]
            if len(names) > 1 or given.vararg or given.kwarg:
                yield f"{node.lineno}: {node.name} takes {', '.join(names)}"


def loops_wait_for_no_database(file: File) -> Iterator[Fault]:
    """What an `async def` itself runs; functions inside of it are handed to threads."""
    if file.room not in {"activities", "api", "web", "workflows"}:
        return
    waiting: list[ast.AST] = [node for node in file.nodes if isinstance(node, ast.AsyncFunctionDef)]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.Call) and called(node).split(".")[-1] in {"transaction", "snapshot"}:
                yield f"{node.lineno}: {ast.unparse(node)}"
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                waiting.append(node)


def moments_have_a_zone(file: File) -> Iterator[Fault]:
    if not file.is_product:
        return
    for node in file.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = called(node).replace("datetime.datetime", "datetime")
        keywords = {keyword.arg for keyword in node.keywords}
        zoned = {
            "datetime.now": bool(node.args) or "tz" in keywords,
            "datetime.fromtimestamp": len(node.args) > 1 or "tz" in keywords,
            "datetime": len(node.args) > 7 or "tzinfo" in keywords,
            "datetime.utcnow": False,
            "datetime.utcfromtimestamp": False,
            "datetime.today": False,
        }
        if not zoned.get(name, True):
            yield f"{node.lineno}: {ast.unparse(node)}"


def files_are_short(file: File) -> Iterator[Fault]:
    if file.path.suffix == ".py" and (lines := file.text.count("\n")) > MAX_FILE:
        yield f"{lines}: lines; {MAX_FILE} at most"


def functions_are_short(file: File) -> Iterator[Fault]:
    for node in file.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} lines; {MAX_FUNCTION} at most"


def modules_say_what_they_are(file: File) -> Iterator[Fault]:
    if file.is_product and file.path.suffix == ".py" and file.text.strip():
        module = file.nodes[0]
        assert isinstance(module, ast.Module)
        if not ast.get_docstring(module):
            yield "1: no docstring"


def names_mean_something(file: File) -> Iterator[Fault]:
    yield from (
        f"0: {part}" for part in file.path.parts if PurePosixPath(part).stem.lower().strip("_") in FORBIDDEN_NAMES
    )


def nothing_else_at_the_top(file: File) -> Iterator[Fault]:
    if file.path.parts[0] not in AT_THE_TOP:
        yield f"0: {file.path.parts[0]}"


def nothing_is_left_for_later(file: File) -> Iterator[Fault]:
    for number, line in enumerate(file.text.splitlines(), 1):
        if file.path.name != EXPLAINED.name and (found := re.search(r"\b(TO" + r"DO|FIX" + r"ME)\b", line)):
            yield f"{number}: {found[0]}"


def documents_name_what_exists(file: File) -> Iterator[Fault]:
    if file.path.suffix != ".md":
        return
    for number, line in enumerate(file.text.splitlines(), 1):
        for name in re.findall(r"`([\w.-]+/(?:[\w./-]*(?:\.\w+|/))?)`", line):
            if name.split("/")[0] in AT_THE_TOP and not (ROOT / name).exists():
                yield f"{number}: {name} is not there"


FUNCTION = "def f():\n" + "    x = 1\n" * (MAX_FUNCTION - 1)
LENGTHS = {
    "files_are_short": {
        "bad": [("tests/a.py", "x = 1\n" * (MAX_FILE + 1))],
        "good": [("tests/a.py", "x = 1\n" * MAX_FILE), ("docs/a.md", "x\n" * (MAX_FILE + 1))],
    },
    "functions_are_short": {
        "bad": [("tests/a.py", FUNCTION + "    x = 1\n"), ("tests/a.py", f"async {FUNCTION}    x = 1\n")],
        "good": [("tests/a.py", FUNCTION)],
    },
}
every_rule = pytest.mark.parametrize(
    "rule",
    (
        doors,
        strangers,
        engine_is_pure,
        engine_has_no_float,
        settings_are_read_by_roots,
        vendors,
        activities_take_one_command,
        loops_wait_for_no_database,
        moments_have_a_zone,
        files_are_short,
        functions_are_short,
        modules_say_what_they_are,
        names_mean_something,
        nothing_else_at_the_top,
        nothing_is_left_for_later,
        documents_name_what_exists,
    ),
    ids=lambda rule: rule.__name__,
)


@every_rule
def test_the_house_keeps(rule: Rule) -> None:
    faults = [f"{file.path}:{fault}" for file in project() for fault in rule(file)]
    assert not faults, "\n".join([explained()[rule.__name__]["remedy"], *faults])


@every_rule
def test_the_rule_finds_what_it_is_for(rule: Rule) -> None:
    examples = LENGTHS.get(rule.__name__) or explained()[rule.__name__]
    missed = [example for example in examples["bad"] if not list(rule(parsed(*example)))]
    blamed = [example for example in examples["good"] if list(rule(parsed(*example)))]
    assert examples["bad"] and examples["good"]
    assert not missed and not blamed, f"not found: {missed}; wrongly found: {blamed}"


def test_the_rules_look_at_every_room() -> None:
    assert {file.room for file in project()} >= {
        *ROOMS,
        "sandbox",
        "settings",
        "worker",
        "cli",
        "perennial_client",
        "tests",
    }
