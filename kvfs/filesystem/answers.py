"""Answers that are the same for a live node and for one of the past."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kvfs.errors import PosixError
from kvfs.fuse import protocol

if TYPE_CHECKING:
    from kvfs.fuse import Header
    from kvfs.store.content import Content
    from kvfs.table import File, Node


def sought(content: Content, node: File, offset: int, whence: int) -> bytes:
    """Return the answer where the next data is in a file, or the next hole. Raises `PosixError` ENXIO."""
    if offset < 0 or offset >= content.size(node):
        raise PosixError(errno.ENXIO)
    found: int | None
    if whence == os.SEEK_HOLE:
        found = content.next_hole(node, offset)
    else:
        found = content.next_data(node, offset)
    if found is None:
        raise PosixError(errno.ENXIO)
    return protocol.LSEEK_OUT.pack(found)


def shown_names(node: Node, caller: Header) -> bytes:
    """Return the names of the extended attributes of `node` that `caller` may see, each with a NUL."""
    names = node.xattrs or ()
    return b"".join(
        name + b"\0" for name in names if caller.uid == 0 or not name.startswith(b"trusted.")
    )


def sized(value: bytes, size: int) -> bytes:
    """Return `value`, or how long it is if the caller has no room and only asks that."""
    if size == 0:
        return protocol.GETXATTR_OUT.pack(len(value))
    if len(value) > size:
        raise PosixError(errno.ERANGE)
    return value
