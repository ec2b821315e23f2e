"""The mount: FUSE requests translated into calls of the store's file interface.

Nothing here knows of records or formats. Handlers are synchronous, and one at
a time has the lock of the store; only fsync is waited for in another thread.
"""

from kvfs.filesystem.boundary import errno_of
from kvfs.filesystem.operations import Filesystem
from kvfs.filesystem.shown import showing
from kvfs.filesystem.syncer import Syncer

__all__ = ["Filesystem", "Syncer", "errno_of", "showing"]
