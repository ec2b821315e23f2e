"""Who calls, and what a file may keep of its set-id bits when they change it."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvfs.fuse import Header


def _groups(pid: int) -> list[int]:
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Groups:"):
                return [int(word) for word in line.split()[1:]]
    return []


def _is_in_group(caller: Header, gid: int) -> bool:
    """Tell whether the process has the group `gid`, as far as /proc tells."""
    return gid == caller.gid or gid in _groups(caller.pid)


def unprivileged(mode: int, gid: int, caller: Header, *, changed: bool) -> int:
    """Return what is left of `mode` when `caller` sets it, or has `changed` the file otherwise.

    `gid` is the group of the file. The rules are those of
    setattr_should_drop_suidgid and setattr_prepare in the kernel's fs/attr.c;
    its FUSE leaves the set-group-id bit where the group may not execute.
    """
    if caller.uid == 0:
        return mode
    if changed:
        mode &= ~stat.S_ISUID
    if mode & stat.S_ISGID:
        execute = changed and mode & stat.S_IXGRP
        if execute or not _is_in_group(caller, gid):
            mode &= ~stat.S_ISGID
    return mode
