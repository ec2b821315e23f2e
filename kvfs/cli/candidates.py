"""What the shell may offer for an argument: keys, snapshots and mountpoints that there are.

Nobody may be told what goes wrong while a command is being typed: then nothing
is offered.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from kvfs import keys as key_names
from kvfs.disk import Disk
from kvfs.store.lock import holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 1000
"""So many are offered, of more the first ones and the last."""


def keys(store: str | None, incomplete: str) -> list[CompletionItem[str]]:
    """Return how the keys of `store` go on from `incomplete`, up to the next `/`."""
    if not store:
        return []
    prefix = os.fsencode(incomplete)
    try:
        found = _components(_expanded(store), prefix)
    except OSError:
        return []
    if len(found) > _MOST:
        # The last one too, so that what all have in common is true of those left out.
        found = [*found[: _MOST - 1], found[-1]]
    return [CompletionItem(os.fsdecode(key)) for key in found]


def snapshots(store: str | None, incomplete: str) -> list[CompletionItem[str]]:
    """Return the snapshots of `store` that start with `incomplete`."""
    from kvfs.store.moment import read_snapshots

    if not store:
        return []
    try:
        names = sorted(name for name, _, _ in read_snapshots(Disk(), _expanded(store)))
    except OSError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def mountpoints(incomplete: str) -> list[CompletionItem[str]]:
    """Return where stores are mounted, as a path that starts with `incomplete`."""
    from kvfs.mounts import mounted

    found = []
    for mount in mounted():
        where = mount.mountpoint
        shown = where if incomplete.startswith("/") else os.path.relpath(where)
        found += [CompletionItem(path) for path in (shown, where) if path.startswith(incomplete)][
            :1
        ]
    return found


def _expanded(path: str) -> str:
    """Return `path` as the shell will pass it on."""
    return os.path.abspath(os.path.expandvars(os.path.expanduser(path)))


def _components(store: str, prefix: bytes) -> list[bytes]:
    holder = holder_of(Disk(), store)
    if holder and holder.mounted and holder.mountpoint:
        with suppress(OSError):  # it may be somebody else's
            root = os.fsencode(holder.mountpoint)
            return sorted({*_below(root, prefix), *_aside(root, prefix)})
    from kvfs.store import open_store

    with open_store(store, read_only=True, create=False) as opened:
        return opened.components(prefix)


def _below(root: bytes, prefix: bytes) -> Iterator[bytes]:
    """Yield what stands at paths of the mount at `root`, of the directory of `prefix` alone."""
    path, slash, start = prefix.rpartition(b"/")
    if (slash and not path) or (path and key_names.split(path) is None):
        return
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root + b"/" + path) as names:
        for entry in names:
            if entry.name.startswith(start):
                if entry.is_dir(follow_symlinks=False):
                    yield path + slash + entry.name + b"/"
                elif entry.is_file(follow_symlinks=False):
                    yield path + slash + entry.name


def _aside(root: bytes, prefix: bytes) -> Iterator[bytes]:
    """Yield the keys that stand below `.kvfs/keys/`."""
    top = os.path.join(root, key_names.CONTROL, key_names.KEYS)
    for directory, _, names in os.walk(top):
        pieces = os.path.relpath(directory, top).split(b"/") if directory != top else []
        for name in names:
            key = key_names.decode([*pieces, name])
            if key is not None and key.startswith(prefix):
                end = key.find(b"/", len(prefix)) + 1
                yield key[:end] if end else key
