"""The kernel's FUSE protocol: a mount, its requests and its replies.

Knows nothing of stores. Why kvfs speaks the protocol itself is told, with what
was measured, in docs/decisions/004-fuse-protocol.md.
"""

from kvfs.fuse.connection import Connection
from kvfs.fuse.counters import Counters
from kvfs.fuse.session import Apart, Handler, Header, Reply, Session

__all__ = ["Apart", "Connection", "Counters", "Handler", "Header", "Reply", "Session"]
