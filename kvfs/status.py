"""Which stores are mounted, and how their daemons are: for `kvfs status`.

A daemon is asked through its socket, and one that has none through its mount.
Whoever asks a mount may hang with it, so each is asked in a thread of its own, which is
left behind when it takes too long.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import mounts
from kvfs.control import ask_status
from kvfs.disk import Disk
from kvfs.store import holder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvfs.mounts import Mount

ALIVE, STALE, SILENT = "alive", "stale", "not answering"
PATIENCE = 3.0
"""Seconds after which a daemon counts as not answering."""


class MountStatus(NamedTuple):
    """One mount and its daemon.

    `state` is `ALIVE`, `STALE` (the daemon is gone) or `SILENT`. What only the daemon knows is
    None where it does not say: `pid`, `since` (nanoseconds since 1970), `version` and `format`,
    `records` and `bytes` of its log, the moment `at` that is shown if it is one of the past,
    `durability`, and the `failure` for which it takes no more writes.
    """

    mountpoint: str
    store: str
    state: str
    read_only: bool
    pid: int | None = None
    since: int | None = None
    version: str | None = None
    format: str | None = None
    records: int | None = None
    bytes: int | None = None
    at: str | None = None
    durability: str | None = None
    failure: str | None = None


_TOLD = {
    "pid": int,
    "since": int,
    "version": str,
    "format": str,
    "records": int,
    "bytes": int,
    "at": str,
    "durability": str,
    "failure": str,
}


def mounts_of(what: str | None) -> list[Mount]:
    """Return the mounts at, or of, the mountpoint or store `what`; with None, all of this user.

    Root has all.
    """
    user = os.geteuid()
    if what is None:
        return [mount for mount in mounts.mounted() if user in (0, mount.user)]
    here = mounts.find(what)
    if here:
        return [here]
    place = mounts.place_of(what)
    return [mount for mount in mounts.mounted() if mounts.place_of(mount.store) == place]


def status_of(asked: Sequence[Mount], patience: float = PATIENCE) -> list[MountStatus]:
    """Return how each of the mounts `asked` is, after `patience` seconds at the latest."""
    found: list[MountStatus | None] = [None] * len(asked)

    def ask(number: int, mount: Mount) -> None:
        found[number] = _ask(mount, patience)

    threads = [
        threading.Thread(target=ask, args=(number, mount), daemon=True)
        for number, mount in enumerate(asked)
    ]
    deadline = time.monotonic() + patience + 1
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return [known or _silent(mount) for known, mount in zip(found, asked, strict=True)]


def _ask(mount: Mount, patience: float) -> MountStatus:
    try:
        told = ask_status(mount, patience)
    except TimeoutError:
        return _silent(mount)
    except (OSError, ValueError):  # it has no socket, or says nothing of use
        return _look(mount)
    known: dict[str, Any] = {
        name: told[name] for name, kind in _TOLD.items() if type(told.get(name)) is kind
    }
    return MountStatus(mount.mountpoint, mount.store, ALIVE, mount.read_only, **known)


def _look(mount: Mount) -> MountStatus:
    """Return how `mount` is, as its mountpoint says."""
    if mounts.is_stale(mount.mountpoint):
        return MountStatus(mount.mountpoint, mount.store, STALE, mount.read_only)
    return _silent(mount)._replace(state=ALIVE)


def _silent(mount: Mount) -> MountStatus:
    """Return what is known of `mount` if it says nothing; its lock may name its daemon."""
    pid = None
    with suppress(OSError):
        holder = holder_of(Disk(), mount.store)
        if holder and holder.mountpoint == mount.mountpoint:
            pid = holder.pid
    return MountStatus(mount.mountpoint, mount.store, SILENT, mount.read_only, pid)
