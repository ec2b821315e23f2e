"""The FUSE calls of a mounted store.

Rules. Every reply that shows the kernel a node counts a reference, which its
`forget` takes back. The kernel may cache everything, since nobody else changes
the store; only names below `.kvfs/`, which can move when a key changes its
place, are asked for each time.
"""

from __future__ import annotations

from kvfs.filesystem.contents import Contents
from kvfs.filesystem.directories import Directories
from kvfs.filesystem.metadata import Metadata
from kvfs.filesystem.names import Names


class Filesystem(Names, Directories, Contents, Metadata):
    """Translates FUSE calls; knows the handles and nothing of formats."""

    supports_dot_lookup = True
    enable_writeback_cache = False
