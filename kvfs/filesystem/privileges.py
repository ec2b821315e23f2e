"""Who calls, and what a file may keep of its set-id bits when they change it."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from kvfs.fuse import Header


class Caller(NamedTuple):
    """Who makes a call: user, group and process."""

    uid: int
    gid: int
    pid: int

    @classmethod
    def of(cls, header: Header) -> Self:
        """Return who makes the call `header`."""
        return cls(header.uid, header.gid, header.pid)

    def is_in_group(self, gid: int) -> bool:
        """Tell whether the process has the group `gid`, as far as /proc tells."""
        return gid == self.gid or gid in _groups(self.pid)


ROOT = Caller(0, 0, 0)
"""Stands for whoever may keep set-id bits."""


def _groups(pid: int) -> list[int]:
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Groups:"):
                return [int(word) for word in line.split()[1:]]
    return []


def unprivileged(mode: int, gid: int, caller: Caller, *, changed: bool) -> int:
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
        if execute or not caller.is_in_group(gid):
            mode &= ~stat.S_ISGID
    return mode
