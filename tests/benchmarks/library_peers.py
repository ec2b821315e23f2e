"""The library peers: key-value stores that a Python process opens, each as it is meant to be used.

Every one is opened so that a put survives the end of the process but does not wait for the disk. A
peer gives its own bound methods where they fit, so that nothing of ours is in the loop. Packages are
imported when they are opened: what is not installed is missing, and the others run on.
"""

from __future__ import annotations

import importlib
import sqlite3
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_DBM = ("dbm.gnu", "dbm.ndbm", "dbm.dumb")


class Opened(NamedTuple):
    """An open store: what puts, gets and closes."""

    put: Callable[[bytes, bytes], object]
    get: Callable[[bytes], bytes | None]
    close: Callable[[], object]


class LibraryPeer(NamedTuple):
    """A key-value library and how it is opened."""

    key: str
    module: str
    opened: Callable[[str], Opened]
    settings: str

    def version(self) -> str:
        """Return what is installed. Raises `ImportError` if nothing is."""
        importlib.import_module(self.module)
        if self.module == "sqlite3":
            return f"SQLite {sqlite3.sqlite_version}"
        return self.module if self.key == "dbm" else metadata.version(self.module)


def _kvfs(path: str) -> Opened:
    import kvfs

    store = kvfs.open(path)
    return Opened(store.put, store.get, store.close)


def _rocksdict(path: str) -> Opened:
    from rocksdict import Options, Rdict

    store = Rdict(path, Options(raw_mode=True))
    return Opened(store.put, store.get, store.close)


def _lmdb(path: str) -> Opened:
    import lmdb

    store = lmdb.open(path, map_size=2**30, sync=False)

    def put(key: bytes, value: bytes) -> None:
        with store.begin(write=True) as change:
            change.put(key, value)

    def get(key: bytes) -> bytes | None:
        with store.begin() as look:
            return look.get(key)

    return Opened(put, get, store.close)


def _plyvel(path: str) -> Opened:
    import plyvel

    store = plyvel.DB(path, create_if_missing=True)
    return Opened(store.put, store.get, store.close)


def _sqlite(path: str) -> Opened:
    store = sqlite3.connect(f"{path}.db", isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=NORMAL")
    store.execute("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
    run = store.execute

    def put(key: bytes, value: bytes) -> None:
        run("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def get(key: bytes) -> bytes | None:
        row = run("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()
        return row and row[0]

    return Opened(put, get, store.close)


def _diskcache(path: str) -> Opened:
    import diskcache

    store = diskcache.Cache(path)
    return Opened(store.set, store.get, store.close)


def dbm_module() -> str:
    """Return the best module of dbm that this Python has."""
    for name in _DBM:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    raise ImportError("this Python has no dbm")


def _dbm(path: str) -> Opened:
    store = importlib.import_module(dbm_module()).open(f"{path}.dbm", "c")
    return Opened(store.__setitem__, store.__getitem__, store.close)


PEERS = {
    peer.key: peer
    for peer in (
        LibraryPeer("kvfs", "kvfs", _kvfs, "`kvfs.open(path)`, a binary store"),
        LibraryPeer("rocksdict", "rocksdict", _rocksdict, "raw mode, log on, `sync` off"),
        LibraryPeer("lmdb", "lmdb", _lmdb, "`sync=False`, a transaction for each put and each get"),
        LibraryPeer("plyvel", "plyvel", _plyvel, "LevelDB with its defaults, `sync` off"),
        LibraryPeer(
            "sqlite3",
            "sqlite3",
            _sqlite,
            "WAL, `synchronous=NORMAL`, autocommit: a statement for each put",
        ),
        LibraryPeer("diskcache", "diskcache", _diskcache, "`Cache(path)` with its defaults"),
        LibraryPeer("dbm", dbm_module(), _dbm, f"`{dbm_module()}`, mode c"),
    )
}
