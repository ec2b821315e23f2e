"""When nodes were last read: relatime, and lazily logged.

As ext4 mounts by default, reading sets the access time of a node only where
that was no later than its last change, or is a day old. The table has it at
once. The log gets it with the next sync in the background, or when the store
is closed, so that reading costs no record of its own in the way; a crash may
lose it. Nothing is logged where the format keeps no times by itself.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from kvfs.errors import KvfsError, RecordTooLargeError, StoreFailedError
from kvfs.records import Attrs, Setattr
from kvfs.table import Directory, File, Node, is_aside
from kvfs.table.table import set_attrs

if TYPE_CHECKING:
    from kvfs.store.content import Content
    from kvfs.store.core import Core

_DAY = 86_400_000_000_000  # nanoseconds


class AccessTimes:
    """The access times of the nodes of one store."""

    def __init__(self, core: Core, content: Content) -> None:
        """Work on the nodes of `core`; `content` knows what of them is not logged."""
        self._core = core
        self._content = content
        self._noted: dict[int, Node] = {}

    def has(self, ino: int) -> bool:
        """Tell whether the node `ino` has an access time that is not logged yet."""
        return ino in self._noted

    def is_due(self, node: Node) -> bool:
        """Tell whether reading `node` now would set its access time.

        The directories of the mount's own have no such time, nor have those
        that only keys imply.
        """
        now = self._core.now()
        pending = self._content.pending(node) if isinstance(node, File) else None
        changed = max(node.mtime, node.ctime, (pending and pending.touched) or 0)
        if (changed < node.atime and now - node.atime < _DAY) or node.atime == now:
            return False
        if isinstance(node, Directory) and self._is_no_state(node):
            return False
        return self._core.writable

    def note(self, node: Node) -> None:
        """Note that `node` has just been read."""
        if not self.is_due(node):
            return
        core = self._core
        now = core.now()
        if node.nlink == 0:
            set_attrs(node, _access(b"", node, now, now))
            return
        core.table.apply(_access(core.table.key_of(node), node, now, now), None)
        if core.log.codec.keeps_time:
            self._noted[node.ino] = node

    def commit(self, most: int | None = None) -> None:
        """Log access times that are not logged yet, all or up to `most`.

        What is refused, as for want of space, waits. Raises `StoreFailedError`.
        """
        try:
            self._commit(len(self._noted) if most is None else most)
        except StoreFailedError:
            raise
        except KvfsError:
            return

    def _commit(self, most: int) -> None:
        core = self._core
        for ino in list(islice(self._noted, most)):
            node = self._noted[ino]
            pending = self._content.pending(node) if isinstance(node, File) else None
            # A file that the log does not know takes its access time with it.
            if node.nlink and not (pending and pending.created):
                record = _access(core.table.key_of(node), node, node.atime, core.now())
                with suppress(RecordTooLargeError):
                    core.commit(record)
            del self._noted[ino]

    def _is_no_state(self, directory: Directory) -> bool:
        return directory.nlink > 0 and (directory.implicit or is_aside(directory.ino))


def _access(key: bytes, node: Node, atime: int, time: int) -> Setattr:
    """Return the record that `node`, by name `key`, was read; its ctime stays."""
    attrs = Attrs(atime=atime, ctime=node.ctime)
    return Setattr(key, attrs, directory=isinstance(node, Directory), time=time)
