"""kvfs: a key-value store that is a directory.

>>> import kvfs, tempfile
>>> store = kvfs.open(tempfile.mkdtemp() + "/store")
>>> store.put("greeting", "hello")
>>> store.get("greeting")
b'hello'
>>> store.close()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvfs.errors import (
    ClosedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    KeyTooLongError,
    KvfsError,
    MountError,
    NoSpaceError,
    NotAStoreError,
    NotAValueError,
    ReadOnlyError,
    RecordTooLargeError,
    StoreExistsError,
    StoreFailedError,
    StoreLockedError,
)

if TYPE_CHECKING:
    from kvfs.store import Store, init
    from kvfs.store import open_store as open  # noqa: A004 - kvfs.open is the point

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "CorruptionError",
    "KeyTooLongError",
    "KvfsError",
    "MountError",
    "NoSpaceError",
    "NotAStoreError",
    "NotAValueError",
    "ReadOnlyError",
    "RecordTooLargeError",
    "Store",
    "StoreExistsError",
    "StoreFailedError",
    "StoreLockedError",
    "init",
    "open",
]

_LATER = {"Store": "Store", "init": "init", "open": "open_store"}
"""What is imported when it is first used, since the command line starts without it."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = globals()[name] = getattr(import_module("kvfs.store"), _LATER[name])
    return found
