"""The mount: FUSE calls translated into calls of the store's file interface.

Nothing here knows of records or formats. The code between two awaits is
atomic, since one event loop runs it all; only fsync goes to a thread.
"""

from kvfs.filesystem.operations import Filesystem
from kvfs.filesystem.syncer import Syncer

__all__ = ["Filesystem", "Syncer"]
