"""The catalog as a folder of files: read with the place of everything, and written in one fixed layout.

products.yaml, features.yaml, meters.yaml and coupons.yaml hold entries by their id; plans/<id>.yaml one plan or add-on
each (without its version, and with the day from which it is sold), overrides/<id>.yaml one customer's override each.
A plan may also be TOML.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

from billing.catalog import Catalog
from billing.catalog_check import wrong_id
from billing.errors import Fault, Refused
from billing.late import Late
from billing.plan import usual
from billing.pricing import Model
from cli.catalog_shape import catalog_of, faults_of, plan_schema
from cli.yaml_layout import Plain, write_yaml
from cli.yaml_tree import Path as Place
from cli.yaml_tree import Tree, Wrong, read_yaml

LISTS = {"products": "product_id", "features": "feature_id", "meters": "meter_id", "coupons": "coupon_id"}
FOLDERS = {"plans": "plan_id", "overrides": "override_id"}
SCHEMA = "schema/plan.json"
MOST_DIGITS = 1_000
_HEADER = f"# yaml-language-server: $schema=../{SCHEMA}\n"
_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")


@dataclass(slots=True)
class Places:
    """Where everything in a catalog stands: its path there to file, line (None if unknown) and path in the file."""

    found: dict[tuple[str, ...], tuple[str, int | None, Place]] = field(default_factory=dict)

    def add(self, at: tuple[str, ...], file: str, tree: Tree, inside: Place = ()) -> None:
        """What stands at `inside` in a file is at `at` in the catalog, and so is everything below."""
        self.found[at] = (file, tree.lines.get(inside, tree.lines.get(())), inside)
        for path, line in tree.lines.items():
            if path[: len(inside)] == inside:
                self.found[(*at, *map(str, path[len(inside) :]))] = (file, line, path)

    def shown(self, where: str) -> str:
        """A path in the catalog as 'plans/team.yaml:14: items.0.price.rate'; itself if it is in no file."""
        path = tuple(where.split("."))
        for length in range(len(path), 0, -1):
            if place := self.found.get(path[:length]):
                file, line, inside = place
                return _at(file, line, (*inside, *path[length:]))
        return where

    def located(self, refusal: Refused, folder: Path) -> Refused:
        """The same refusal, its faults by file and line."""
        faults = [Fault(self.shown(fault.field), fault.reason) for fault in faults_of(refusal)]
        return _refused(folder, faults)


def read(folder: Path) -> Catalog:
    """The catalog of a folder; plans have version 1. Refused with everything that cannot be read, by file and line."""
    return read_placed(folder)[0]


def read_placed(folder: Path) -> tuple[Catalog, Places]:
    """The same, and where everything in it stands."""
    reading = _Reading(folder)
    raw = reading.raw()
    try:
        catalog = catalog_of(raw)
    except Refused as refusal:
        reading.faults += reading.places.located(refusal, folder).faults
    if reading.faults:
        raise _refused(folder, reading.faults)
    return catalog, reading.places


def _refused(folder: Path, faults: Iterable[Fault]) -> Refused:
    return Refused(
        f"The catalog in {folder} cannot be used as it stands.",
        code="invalid_catalog",
        faults=list(dict.fromkeys(faults)),
        remedy="Mend these places; nothing was changed.",
    )


def _at(file: str, line: int | None, path: Place) -> str:
    place = file if line is None else f"{file}:{line}"
    return f"{place}: {'.'.join(map(str, path))}" if path else place


class _Reading:
    """Collects what the files say, as the catalog's fields hold it, and what cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = Places()
        self.faults: list[Fault] = []

    def raw(self) -> dict[str, list[dict[str, Any]]]:
        raw: dict[str, list[dict[str, Any]]] = {kind: self._entries(kind, name) for kind, name in LISTS.items()}
        raw["offers"] = self._plans()
        raw["overrides"] = self._overrides()
        if not any(raw.values()) and not self.faults:
            self.faults.append(Fault(str(self.folder), f"holds no catalog: none of {_expected()}"))
        self._strangers()
        return raw

    def _entries(self, kind: str, id_field: str) -> list[dict[str, Any]]:
        file = f"{kind}.yaml"
        if not (self.folder / file).exists() and not (self.folder / file).is_symlink():
            return []
        tree = self._tree(file)
        entries = self._mapping(file, tree, tree.value, ()) if tree.value is not None else {}
        found = []
        for i, (name, content) in enumerate(sorted(entries.items())):
            self.places.add((kind, str(i)), file, tree, (name,))
            self._check_id(kind, name, file, tree, (name,))
            found.append({**self._content(file, tree, content, (name,), (id_field,)), id_field: name})
        return found

    def _plans(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name, file in self._files("plans"):
            tree = self._tree(file)
            if tree.unreadable:
                continue
            at = ("offers", str(len(found)))
            self.places.add(at, file, tree)
            self.places.add((*at, "plan"), file, tree)
            content = self._content(file, tree, tree.value, (), ("plan_id", "version"))
            sold_from = content.pop("sold_from", None)
            found.append({"plan": {**content, "plan_id": name, "version": 1}, "sold_from": sold_from})
        return found

    def _overrides(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name, file in self._files("overrides"):
            tree = self._tree(file)
            if tree.unreadable:
                continue
            self.places.add(("overrides", str(len(found))), file, tree)
            found.append({**self._content(file, tree, tree.value, (), ("override_id",)), "override_id": name})
        return found

    def _files(self, kind: str) -> list[tuple[str, str]]:
        """Each id with its file, in order of id; a file that cannot be named so, or a second one, is a fault."""
        found: dict[str, str] = {}
        if (self.folder / kind).is_file() or ((self.folder / kind).is_symlink() and not (self.folder / kind).exists()):
            self.faults.append(Fault(kind, "must be a folder"))
        for path in sorted((self.folder / kind).glob("*")):
            file = f"{kind}/{path.name}"
            if path.suffix == ".yml" or (path.suffix == ".toml" and kind != "plans"):
                self.faults.append(Fault(file, "is not read; call it .yaml"))
            elif path.suffix in (".yaml", ".toml") and not path.name.startswith("."):
                self._check_id(kind, path.stem, file, Tree(lines={(): 1}), ())
                if path.stem in found:
                    self.faults.append(Fault(file, f"{path.stem!r} stands in {found[path.stem]} already"))
                else:
                    found[path.stem] = file
        return sorted(found.items())

    def _tree(self, file: str) -> Tree:
        tree = tree_of(self.folder / file)
        self.faults += [Fault(_at(file, wrong.line, wrong.path), wrong.reason) for wrong in tree.wrong]
        return tree

    def _content(self, file: str, tree: Tree, value: object, path: Place, told: Iterable[str]) -> dict[str, Any]:
        """The fields of one entry, without those that are `told` elsewhere."""
        found = dict(self._mapping(file, tree, value, path))
        for name in told:
            if name in found:
                place = _at(file, tree.lines.get((*path, name)), (*path, name))
                self.faults.append(Fault(place, "is not written here: the name says the id, the catalog the version"))
                del found[name]
        return found

    def _mapping(self, file: str, tree: Tree, value: object, path: Place) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self.faults.append(Fault(_at(file, tree.lines.get(path), path), "must be fields with their values"))
        return {}

    def _check_id(self, kind: str, name: str, file: str, tree: Tree, path: Place) -> None:
        if wrong := wrong_id(kind, name):
            self.faults.append(Fault(_at(file, tree.lines.get(path), path), f"{name!r} cannot be an id: it {wrong}"))

    def _strangers(self) -> None:
        """A misspelt name would otherwise be read as nothing at all."""
        for path in sorted(self.folder.glob("*")):
            if path.suffix in (".yaml", ".yml", ".toml") and path.name not in {f"{kind}.yaml" for kind in LISTS}:
                self.faults.append(Fault(path.name, f"is no file of a catalog; those are {_expected()}"))


def _expected() -> str:
    return ", ".join([*(f"{kind}.yaml" for kind in LISTS), *(f"{kind}/<id>.yaml" for kind in FOLDERS)])


def tree_of(path: Path) -> Tree:
    """What one file says, YAML (or JSON) or TOML; nothing is raised, what is wrong is in the tree."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return Tree(wrong=[Wrong(1, (), f"is not UTF-8, at byte {error.start}")])
    except OSError as error:
        return Tree(wrong=[Wrong(1, (), f"cannot be read: {error.strerror}")])
    return _toml(text) if path.suffix == ".toml" else read_yaml(text)


def _toml(text: str) -> Tree:
    """TOML has types of its own; its reader tells no lines but that of an error in the syntax."""
    try:
        return Tree(tomllib.loads(text, parse_float=_number))
    except (tomllib.TOMLDecodeError, ArithmeticError) as error:
        line = _LINE.search(str(error))
        return Tree(wrong=[Wrong(int(line[1]) if line else 1, (), f"is not TOML: {_LINE.sub('', str(error))}")])


def _number(text: str) -> Decimal:
    """One such as 1e999999999 would, written out as a whole number, take all memory and hours."""
    value = Decimal(text)
    if value and value.is_finite() and not -MOST_DIGITS < value.adjusted() < MOST_DIGITS:
        raise OverflowError(f"the number {text} has more than {MOST_DIGITS:,} digits")
    return value


def write(folder: Path, catalog: Catalog) -> None:
    """Write every file of the catalog; others in the folder stay."""
    for file, text in texts(catalog).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def texts(catalog: Catalog) -> dict[str, str]:
    """The files of a catalog by their names, with the schema that editors complete plans by."""
    found: dict[str, str] = {}
    for kind, id_field in LISTS.items():
        if entries := {getattr(one, id_field): _fields(one, {id_field}) for one in getattr(catalog, kind)}:
            found[f"{kind}.yaml"] = write_yaml(dict(sorted(entries.items())))
    for offer in catalog.offers:
        content = _fields(offer.plan, {"plan_id", "version"})
        if offer.sold_from is not None:
            content = _ordered({"name": content.pop("name"), "sold_from": offer.sold_from, **content})
        found[_file("plans", offer.plan.plan_id)] = _HEADER + write_yaml(content, spread=0)
    for override in catalog.overrides:
        found[_file("overrides", override.override_id)] = write_yaml(_fields(override, {"override_id"}), spread=0)
    found[SCHEMA] = json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"
    return dict(sorted(found.items()))


def _file(kind: str, name: str) -> str:
    if wrong_id(kind, name):
        raise Refused(f"{name!r} cannot be the name of a file.", code="invalid_catalog", remedy="Give it another id.")
    return str(PurePosixPath(kind, f"{name}.yaml"))


def _fields(value: object, without: Iterable[str] = ()) -> dict[str, Plain]:
    """What differs from the defaults; the model of a price and a policy always say their kind."""
    found: dict[str, Plain] = {}
    for one in fields(value):  # type: ignore[arg-type]
        held = getattr(value, one.name)
        said = isinstance(value, Model | Late) and one.name == "kind"
        if one.name not in without and (said or one.default is MISSING or held != usual(value, one)):
            found[one.name] = _plain(held)
    return _ordered({"kind": found.pop("kind"), **found} if isinstance(value, Model | Late) else found)


def _plain(value: Any) -> Plain:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | bool | int | Decimal | date):
        return value
    return _fields(value)


def _ordered(found: dict[str, Plain]) -> dict[str, Plain]:
    """As declared where all of it can stand in a line; else what is said in a word first, then what needs more."""
    if all(_size(value) == 0 or _is_words(value) for value in found.values()):
        return found
    return dict(sorted(found.items(), key=lambda named: _size(named[1])))


def _size(value: Plain) -> int:
    """0 for what is said in a word, 1 for what may stand in a line, 2 for what takes more."""
    if not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 if all(_size(part) == 0 for part in parts) else 2


def _is_words(value: Plain) -> bool:
    return isinstance(value, list) and _size(value) == 1
