"""What `kvfs status` prints, for people and in JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvfs.cli.arguments import ByteSize
from kvfs.cli.output import fail, moment, print_json
from kvfs.cli.tables import show_table
from kvfs.status import ALIVE, STALE, mounts_of, status_of

if TYPE_CHECKING:
    from kvfs.status import MountStatus


def show_status(what: str | None, *, as_json: bool) -> bool:
    """Print how the mounts of `what`, or all, are; tell whether `what` is mounted and answers."""
    asked = mounts_of(what)
    if what is not None and not asked and not as_json:
        fail(f"{what} is not mounted, and no store is mounted at it", 1)
    found = status_of(asked)
    if as_json:
        print_json({"mounts": [one._asdict() for one in found]})
    elif what is not None:
        for one in found:
            _print_one(one)
    elif found:
        _print_table(found)
    else:
        sys.stdout.write("no store is mounted\n")
    return what is None or (bool(found) and all(one.state == ALIVE for one in found))


def _print_one(one: MountStatus) -> None:
    lines = {
        "mountpoint": one.mountpoint,
        "store": one.store,
        "state": _state(one),
        "mode": _mode(one),
        "process": _or_dash(one.pid),
        "since": _since(one),
        "format": _or_dash(one.format),
        "size": _size(one),
        "records": _or_dash(one.records),
        "durability": _or_dash(one.durability),
        "version": _or_dash(one.version),
    }
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        sys.stdout.write(f"{name + ':':{width}}{value}\n")


def _print_table(found: list[MountStatus]) -> None:
    names = ("mountpoint", "store", "state", "mode", "pid", "since", "format", "size")
    rows = []
    for one in found:
        cells = [one.mountpoint, one.store, _state(one), _mode(one), _or_dash(one.pid)]
        rows.append((*cells, _since(one), _or_dash(one.format), _size(one)))
    show_table(names, rows)


def _state(one: MountStatus) -> str:
    if one.state == ALIVE and one.failure:
        return f"{one.state}; {one.failure}"
    if one.state == STALE:
        return "stale: the daemon is gone"
    return one.state


def _mode(one: MountStatus) -> str:
    if one.at is not None:
        return f"read-only, as at {one.at}"
    return "read-only" if one.read_only else "read-write"


def _since(one: MountStatus) -> str:
    return "-" if one.since is None else moment(one.since)


def _size(one: MountStatus) -> str:
    return "-" if one.bytes is None else str(ByteSize(one.bytes))


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
