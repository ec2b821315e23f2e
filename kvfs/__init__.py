"""kvfs: a key-value store that is a directory.

>>> import kvfs, tempfile
>>> store = kvfs.open(tempfile.mkdtemp() + "/store")
>>> store.put("greeting", "hello")
>>> store.get("greeting")
b'hello'
>>> store.close()
"""

from kvfs.errors import (
    ClosedError,
    ConfigError,
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
from kvfs.store import Store, init
from kvfs.store import open_store as open  # noqa: A004 - kvfs.open is the point

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "ConfigError",
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
