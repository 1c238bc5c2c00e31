"""The ports of a stack's servers, and those that they had: a folder that is kept keeps its ports over restarts, and an
address that a shell still holds from an earlier start is known as the stack's own.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sandbox.process import StartFailed, free_ports, port_is_free, server_ports

NAMES = ("API", "UI", "TEMPORAL", "POSTGRES")
FILE = "ports.json"
MOST_NOTED = 10
Had = dict[str, list[int]]
"""By name, the newest first."""


def choose(folder: Path, *, keep: bool) -> dict[str, int]:
    """A port for each of NAMES: what PERENNIAL_PORT_... says; else with `keep` that of the last start, if it is free;
    else any free one. They are written down in the folder.
    """
    had = _had(folder)
    chosen: dict[str, int] = {}
    for name in NAMES:
        if port := _given(name) or (_last(had.get(name, [])) if keep else None):
            chosen[name] = port
    spare = (port for port in free_ports(len(NAMES)) if port not in chosen.values())
    ports = {name: chosen.get(name) or next(spare) for name in NAMES}
    noted = {
        name: [port, *(one for one in had.get(name, []) if one != port)][:MOST_NOTED] for name, port in ports.items()
    }
    (folder / f"{FILE}.new").write_bytes(msgspec.json.encode(noted))
    (folder / f"{FILE}.new").replace(folder / FILE)
    return ports


def was_ours(folder: Path, name: str, address: str) -> bool:
    """Whether a server of this stack, or of the demo that belongs to it, has listened at this address, and nobody does
    now. `address` is host:port or a URL.
    """
    server = address.rpartition("://")[2].partition("/")[0]
    host, _, said = server.rpartition("@")[2].rpartition(":")
    if host != "127.0.0.1" or not said.isdecimal():
        return False
    folders = (folder, folder.parent, folder / "demo")
    return any(int(said) in _had(each).get(name, []) for each in folders) and port_is_free(int(said))


def _had(folder: Path) -> Had:
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Had)
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _last(had: list[int]) -> int | None:
    return next((port for port in had if port in server_ports() and port_is_free(port)), None)


def _given(name: str) -> int | None:
    variable = f"PERENNIAL_PORT_{name}"
    given = os.environ.get(variable)
    if not given:
        return None
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise StartFailed("stack", f"{variable}={given} is not a port: give a number from 1 to 65535")
    if not port_is_free(int(given)):
        raise StartFailed("stack", f"port {given} ({variable}) is in use by another program")
    return int(given)
