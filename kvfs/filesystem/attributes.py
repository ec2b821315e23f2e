"""The attributes of nodes as pyfuse3 wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

if TYPE_CHECKING:
    from kvfs.store.nodes import Stat

FOREVER = 365 * 86400.0
"""Seconds for which the kernel may answer alone: the mount is the only writer."""


def entry(stat: Stat, *, lasting: bool = True) -> pyfuse3.EntryAttributes:
    """Return the entry of a node; unless `lasting`, the kernel asks for its name each time."""
    result = pyfuse3.EntryAttributes()
    result.st_ino = pyfuse3.InodeT(stat.ino)
    result.st_mode = pyfuse3.ModeT(stat.mode)
    result.st_nlink = stat.nlink
    result.st_uid = stat.uid
    result.st_gid = stat.gid
    result.st_rdev = stat.rdev
    result.st_size = stat.size
    result.st_blocks = stat.blocks
    result.st_atime_ns = stat.atime
    result.st_mtime_ns = stat.mtime
    result.st_ctime_ns = stat.ctime
    result.entry_timeout = FOREVER if lasting else 0.0
    result.attr_timeout = FOREVER
    return result


def missing(*, lasting: bool = True) -> pyfuse3.EntryAttributes:
    """Return the entry that tells the kernel to remember that there is none."""
    result = pyfuse3.EntryAttributes()
    result.st_ino = pyfuse3.InodeT(0)
    result.entry_timeout = FOREVER if lasting else 0.0
    return result
