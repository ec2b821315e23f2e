"""What `kvfs log`, `diff` and `snapshot list` print, for people and in JSON Lines."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from kvfs.cli.access import reader
from kvfs.cli.output import colourful, print_json, when
from kvfs.errors import KvfsError, quoted
from kvfs.store.history import ADDED, CHANGED, REMOVED, changes, differences
from kvfs.store.listing import field
from kvfs.store.snapshots import list_all

if TYPE_CHECKING:
    from kvfs.store.history import Change

_MARKS = {ADDED: b"+ %b\n", REMOVED: b"- %b\n", CHANGED: b"~ %b\n"}
_COLOURED = {
    ADDED: b"\33[32m+ %b\33[0m\n",
    REMOVED: b"\33[31m- %b\33[0m\n",
    CHANGED: b"\33[33m~ %b\33[0m\n",
}


def show_log(store: str, key: bytes | None, *, as_json: bool) -> None:
    """Print every change, or those of `key`, a line each."""
    shown = 0
    for change in changes(store, key):
        shown += 1
        if as_json:
            print_json(_fields(change), indent=None)
        else:
            sys.stdout.write(_line(change) + "\n")
    if key is not None and not shown:
        message = f"nothing was ever logged of {quoted(key)}"
        raise KvfsError(message, errno.ENOENT)


def show_diff(store: str, old: str, new: str | None, *, as_json: bool) -> None:
    """Print the keys that differ, a line each."""
    marks = _COLOURED if colourful() else _MARKS
    with reader(store, old) as before, reader(store, new) as after:
        for what, key in differences(before, after):
            if as_json:
                print_json({"change": what, **field("key", key)}, indent=None)
            else:
                sys.stdout.buffer.write(marks[what] % key)


def show_snapshots(store: str, *, as_json: bool) -> None:
    """Print the snapshots of the store, a line each."""
    for found in list_all(store):
        if as_json:
            print_json(found._asdict(), indent=None)
        else:
            sys.stdout.write(f"{found.records:>8}  {when(found.time)}  {found.name}\n")


def _fields(change: Change) -> dict[str, object]:
    fields: dict[str, object] = {
        "sequence": change.sequence,
        "time": change.time,
        "what": change.what,
        **field("key", change.key),
    }
    if change.new is not None:
        fields |= field("new", change.new)
    fields["directory"] = change.directory
    for name in ("offset", "size", "uid"):
        if (value := getattr(change, name)) is not None:
            fields[name] = value
    return fields


def _line(change: Change) -> str:
    words = [f"{change.sequence:>8}", when(change.time)]
    words += [f"{change.uid if change.uid is not None else '-':>6}"]
    words += [change.what, quoted(change.key)]
    if change.new is not None:
        words.append(f"to {quoted(change.new)}")
    if change.size is not None:
        words.append(f"{change.size} bytes")
    if change.offset is not None:
        words.append(f"at {change.offset}")
    return "  ".join(words[:3]) + "  " + " ".join(words[3:])
