"""Bringing the past of a store back: `kvfs restore` and `kvfs undo`.

What comes back is written like anything else, through the mount if there is
one, so that it can be undone itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kvfs.cli.access import reader, writer
from kvfs.cli.progress import progress
from kvfs.errors import KvfsError, quoted
from kvfs.store.history import ADDED, differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvfs.cli.access import Writer
    from kvfs.store import Store


def restore(store: str, keys: Sequence[bytes], at: str) -> None:
    """Let each of `keys` have the value that it had at the moment `at`.

    Raises `KvfsError` ENOENT if one had none; then nothing has changed.
    """
    with reader(store, at) as past:
        for key in keys:
            if key not in past:
                message = f"{quoted(key)} had no value then; nothing was changed"
                raise KvfsError(message, errno.ENOENT)
        with writer(store) as target, progress("restoring", len(keys)) as advance:
            for key in keys:
                _bring_back(past, target, key)
                advance(1)


def undo(store: str, to: str) -> tuple[int, int]:
    """Let the keys of the store have the values that they had at the moment `to`, and no others.

    Returns how many were brought back, and how many removed.
    """
    with reader(store, to) as past:
        with reader(store) as present:
            found = list(differences(past, present))
        with writer(store) as target, progress("undoing", len(found)) as advance:
            for what, key in found:
                if what == ADDED:
                    target.delete(key)
                else:
                    _bring_back(past, target, key)
                advance(1)
    removed = sum(what == ADDED for what, _ in found)
    return len(found) - removed, removed


def _bring_back(past: Store, target: Writer, key: bytes) -> None:
    value, look = past.get(key), past.look_of(key)
    assert value is not None
    assert look is not None
    target.bring_back(key, value, look)
