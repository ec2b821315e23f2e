"""The directories of a store: what makes one, and whether they are there."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs import config as store_config
from kvfs.errors import CorruptionError
from kvfs.store.lock import FILE as LOCK
from kvfs.store.readers import FILE as READERS

if TYPE_CHECKING:
    from kvfs.config import Config
    from kvfs.disk import Disk

_DIRECTORIES = ("segments", "checkpoints", "quarantine")
_OTHERS = 0o077
"""What a mode allows to others than the owner."""


def directories(path: str) -> list[str]:
    """Return the paths of the directories of the store at `path`."""
    return [os.path.join(path, name) for name in _DIRECTORIES]


def check_directories(disk: Disk, path: str, *, make: bool) -> None:
    """Raise `CorruptionError` if the log of the store at `path` is gone, or a directory is a link.

    The other directories may be missing, as in a copy that leaves out empty
    ones; with `make` they are made.
    """
    for directory in directories(path):
        try:
            mode = disk.stat(directory).st_mode
        except FileNotFoundError:
            if os.path.basename(directory) == _DIRECTORIES[0]:
                message = f"{directory} is missing"
                raise CorruptionError(message) from None
            if make:
                make_directory(disk, directory)
            continue
        if not stat.S_ISDIR(mode):
            message = f"{directory} is no directory; kvfs follows no link inside a store"
            raise CorruptionError(message)


def make_directory(disk: Disk, path: str, *, inside: bool = True) -> None:
    """Make the directory `path` if it is not there; its name is on stable storage on return.

    One that is there may be from a process that has died before it synced the name.
    """
    with suppress(FileExistsError):
        disk.mkdir(path, inside=inside)
    try:
        disk.sync_directory(os.path.dirname(path))
    except PermissionError:  # who may pass through the directory above need not be let read it
        disk.sync_all()


def initialise(disk: Disk, path: str, config: Config) -> None:
    """Make a store in the directory `path`, which is blank, for its owner alone.

    The configuration is written last, so that a crash leaves no half store.
    """
    if disk.stat(path).st_mode & _OTHERS:
        disk.make_private(path)
    for directory in directories(path):
        make_directory(disk, directory)
    disk.write_file(store_config.config_path(path), store_config.dump(config))


def is_blank(disk: Disk, path: str) -> bool:
    """Tell whether a store may be made at `path`, maybe over one that was begun.

    That leaves empty directories only: where one holds anything, a store has
    lost its configuration.
    """
    try:
        names = set(disk.list(path))
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    return names <= {*_DIRECTORIES, LOCK, READERS, f"{store_config.FILE}.tmp"} and all(
        _is_empty_directory(disk, os.path.join(path, name)) for name in names & {*_DIRECTORIES}
    )


def _is_empty_directory(disk: Disk, path: str) -> bool:
    return stat.S_ISDIR(disk.stat(path).st_mode) and not disk.list(path)
