"""Other owners and modes than the nodes have: the options uid, gid and umask of a mount.

They change what the mount shows, of what is now and of the past, and so what the
kernel allows; the store and its log know nothing of them. The rule is that of
libfuse (lib/fuse.c, set_stat).
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from kvfs.store.nodes import Stat

Show = Callable[[Stat], Stat]
_ALL = 0o777


def as_it_is(found: Stat) -> Stat:
    """Return `found`."""
    return found


def showing(uid: int | None, gid: int | None, umask: int | None) -> Show:
    """Return what makes of attributes those that are shown; None leaves what is there."""
    others = {name: value for name, value in (("uid", uid), ("gid", gid)) if value is not None}
    if umask is None:
        return (lambda found: found._replace(**others)) if others else as_it_is
    mode = _ALL & ~umask
    return lambda found: found._replace(mode=stat.S_IFMT(found.mode) | mode, **others)
