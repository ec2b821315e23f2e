"""Room set aside on the disk, so that a full one can be emptied.

To delete is to append too, and what that makes free comes back only once a
checkpoint has been made. The reserve is a file that takes room, and is removed
when that is wanted. Until it is there again, nothing else is written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvfs.disk import Disk

FILE = "reserve"
LEAST = 1024 * 1024
"""Bytes: for some thousands of deletions and a small checkpoint."""


class Reserve:
    """The reserve of the store at `path`."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Look at nothing yet."""
        self._disk = disk
        self._path = os.path.join(path, FILE)

    def lay(self, size: int) -> bool:
        """Set `size` bytes aside, if they are not yet, and tell whether they are."""
        try:
            fd = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
        except OSError:
            return False
        try:
            if self._disk.size(fd) < size:
                self._disk.allocate(fd, size)
        except OSError:
            self.release()
            return False
        finally:
            self._disk.close(fd)
        return True

    def release(self) -> bool:
        """Give the room back, and tell whether there was any."""
        with suppress(OSError):
            self._disk.unlink(self._path)
            return True
        return False
