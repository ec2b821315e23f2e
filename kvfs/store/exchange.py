"""Putting a new log in the place of another, so that a crash leaves the one or the other.

The new log is made in `segments.repair/`, with a list of what it leaves out,
`repair.N.json`. The two directories change places in one step. Where that list
is in `segments/`, the step has been taken and the rest has to follow: `clean`,
which speaks of the old log, goes; the old log goes to `quarantine/segments.N`, and
its checkpoints into that, the snapshots to `quarantine/snapshots.N`; the list, last,
goes beside it. Where it is not, `segments.repair/` holds
nothing that is not in `segments/` too.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvfs.disk import Disk

_WORK = "segments.repair"
_TRIAL = "segments.trial"
_LIST = re.compile(r"repair\.([1-9][0-9]{0,8})\.json")


def begin(disk: Disk, path: str) -> tuple[str, int]:
    """Make the directory of a new log in the store at `path`; return it, and a number for the old.

    Raises what the disk says, also where its file system cannot exchange two names.
    """
    abandon(disk, path)
    work, trial = os.path.join(path, _WORK), os.path.join(path, _TRIAL)
    disk.mkdir(trial)
    disk.mkdir(work)
    disk.exchange(trial, work)
    disk.rmdir(trial)
    taken = disk.list(os.path.join(path, "quarantine"))
    number = 1
    while any(name in taken for name in (f"segments.{number}", f"segments.{number}.json")):
        number += 1
    return work, number


def abandon(disk: Disk, path: str) -> None:
    """Remove what `begin` made, now or in a repair that did not come so far, and what is in it."""
    for name in (_WORK, _TRIAL):
        empty(disk, os.path.join(path, name))


def empty(disk: Disk, directory: str) -> None:
    """Remove `directory`, if it is there, with the files in it."""
    with suppress(FileNotFoundError):
        for file in disk.list(directory):
            disk.unlink(os.path.join(directory, file))
        disk.rmdir(directory)


def _retire(disk: Disk, path: str, kept: str, number: int) -> None:
    """Bring what speaks of the old log where that is kept: its checkpoints and the snapshots."""
    directory = os.path.join(path, "checkpoints")
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = [name for name in disk.list(directory) if name.endswith(".ckp")]
    for name in names:
        disk.rename(os.path.join(directory, name), os.path.join(kept, name))
    if names:
        disk.sync_directory(kept)
        disk.sync_directory(directory)
    with suppress(FileNotFoundError):
        snapshots = os.path.join(path, "snapshots")
        disk.rename(snapshots, os.path.join(path, "quarantine", f"snapshots.{number}"))


def dump_list(listed: dict[str, object]) -> bytes:
    """Return what a rewritten log leaves out as JSON."""
    import json  # here, since every opening of a store imports this module

    return json.dumps(listed, indent=1).encode() + b"\n"


def take_place(disk: Disk, path: str, number: int, listed: bytes) -> str:
    """Let the new log, closed and synced, take the place of the old one; `listed` is the list.

    Returns where the old log is kept. Raises what the disk says; then the old
    log is as it was, or `finish` goes on.
    """
    work = os.path.join(path, _WORK)
    disk.write_file(os.path.join(work, f"repair.{number}.json"), listed)
    disk.exchange(os.path.join(path, "segments"), work)
    finish(disk, path)
    return os.path.join(path, "quarantine", f"segments.{number}")


def pending(disk: Disk, path: str) -> int | None:
    """Return the number of an exchange that has not come to its end, if there is one."""
    names = disk.list(os.path.join(path, "segments"))
    return next((int(match[1]) for name in names if (match := _LIST.fullmatch(name))), None)


def finish(disk: Disk, path: str) -> bool:
    """Bring an exchange to its end, and tell whether there was one.

    What is to be done is on stable storage before the list leaves `segments/`.
    """
    number = pending(disk, path)
    if number is None:
        return False
    quarantine = os.path.join(path, "quarantine")
    segments, clean = os.path.join(path, "segments"), os.path.join(path, "clean")
    kept = os.path.join(quarantine, f"segments.{number}")
    disk.sync_directory(path)
    with suppress(FileNotFoundError):
        disk.unlink(clean)
    with suppress(FileNotFoundError):
        disk.rename(os.path.join(path, _WORK), kept)
    _retire(disk, path, kept, number)
    disk.sync_directory(quarantine)
    disk.sync_directory(path)
    disk.rename(os.path.join(segments, f"repair.{number}.json"), f"{kept}.json")
    disk.sync_directory(quarantine)
    disk.sync_directory(segments)
    return True
