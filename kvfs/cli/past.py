"""What `kvfs log`, `diff` and `snapshot list` print, for people and in JSON Lines."""

from __future__ import annotations

import errno
import json
import sys
from typing import TYPE_CHECKING

from kvfs.cli.access import reader
from kvfs.cli.output import quoted, when
from kvfs.errors import KvfsError
from kvfs.store.history import ADDED, CHANGED, REMOVED, changes, differences
from kvfs.store.listing import field
from kvfs.store.snapshots import list_all

if TYPE_CHECKING:
    from kvfs.store.history import Change

_MARKS = {ADDED: b"+ ", REMOVED: b"- ", CHANGED: b"~ "}


def show_log(store: str, key: bytes | None, *, as_json: bool) -> None:
    """Print every change, or those of `key`, a line each."""
    shown = 0
    for change in changes(store, key):
        shown += 1
        line = json.dumps(_fields(change), ensure_ascii=False) if as_json else _line(change)
        sys.stdout.write(line + "\n")
    if key is not None and not shown:
        message = f"nothing was ever logged of {quoted(key)}"
        raise KvfsError(message, errno.ENOENT)


def show_diff(store: str, old: str, new: str | None, *, as_json: bool) -> None:
    """Print the keys that differ, a line each."""
    with reader(store, old) as before, reader(store, new) as after:
        for what, key in differences(before, after):
            if as_json:
                shown = {"change": what, **field("key", key)}
                line = json.dumps(shown, ensure_ascii=False).encode()
            else:
                line = _MARKS[what] + key
            sys.stdout.buffer.write(line + b"\n")


def show_snapshots(store: str, *, as_json: bool) -> None:
    """Print the snapshots of the store, a line each."""
    for found in list_all(store):
        if as_json:
            line = json.dumps(found._asdict())
        else:
            line = f"{found.records:>8}  {when(found.time)}  {found.name}"
        sys.stdout.write(line + "\n")


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
