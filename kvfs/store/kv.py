"""The key-value interface: `Store`."""

from __future__ import annotations

import stat
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Self

from kvfs import keys
from kvfs.errors import (
    not_a_value,
)
from kvfs.records import Attrs, Delete, Put, Rename
from kvfs.store.content import Content
from kvfs.store.files import Files
from kvfs.table import File, Node

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from kvfs.config import Config
    from kvfs.retention import Retention
    from kvfs.store.background import Background, Keeper
    from kvfs.store.core import Core
    from kvfs.store.keeping import Policy


def _bytes(text: bytes | str) -> bytes:
    """Return `text` as bytes. Raises `TypeError` for what is neither text nor bytes."""
    if type(text) is bytes:
        return text
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    message = f"a key or a value is bytes or str, not {type(text).__name__}"
    raise TypeError(message)


class Look(NamedTuple):
    """What a file has beside its value: permission bits, owner, extended attributes."""

    mode: int
    uid: int
    gid: int
    xattrs: dict[bytes, bytes]


class Store:
    """A key-value store in a directory; made by `kvfs.open`.

    Keys and values are bytes; `str` means UTF-8. Safe to use from several
    threads. What `put` and `delete` return from survives the death of the
    process; `sync` makes it survive a power cut.
    """

    def __init__(self, core: Core, policy: Policy) -> None:
        """Wrap an open core; use `kvfs.open`."""
        self._core = core
        self._content = Content(core)
        self.files = Files(core, self._content)
        """The file interface, for the mount."""
        core.nameless = self.files.nameless_segments
        self._policy = policy
        self._keeper: Keeper | None = None
        core.on_roll = self._note_roll

    # -- keys and values -------------------------------------------------------

    def put(self, key: bytes | str, value: bytes | str) -> None:
        """Set the value of `key`.

        Raises `KeyTooLongError`, `NotAValueError`, `RecordTooLargeError`,
        `NoSpaceError`; then nothing has changed.
        """
        key, value = keys.check(_bytes(key)), _bytes(value)
        core = self._core
        with core.lock:
            core.check(write=True)
            table = core.table
            ino = table.number_of(key)
            if ino is None:
                core.put(key, value, core.now(), new=True)
            elif (changed := table.nodes.ctime_of(ino)) is not None:
                core.put(key, value, max(core.now(), changed), new=False)
            else:
                self._replace(key, table.nodes[ino], value)
                self.files.settle()

    def _replace(self, key: bytes, node: Node, value: bytes) -> None:
        """Set the value of a file that somebody may use."""
        if not isinstance(node, File):
            raise not_a_value(key)
        self._content.replace(node, value)

    def get(self, key: bytes | str) -> bytes | None:
        """Return the value of `key`, or None if it has none.

        Raises `CorruptionError` if its stored bytes do not verify.
        """
        key = _bytes(key)
        core = self._core
        with core.lock:
            core.check()
            ino = core.table.number_of(key)
            if ino is None:
                return None
            nodes = core.table.nodes
            value = nodes.value_of(ino)
            if value is not None:
                return value
            place = nodes.place_of(ino)
            if place is not None:
                value = core.value_at(*place)
                nodes.keep_value(ino, value)
                return value
            node = nodes[ino]
            return self._content.value(node) if isinstance(node, File) else None

    def chunks(self, key: bytes | str, size: int = 1024 * 1024) -> Iterator[bytes] | None:
        """Return the value of `key` in pieces of up to `size` bytes, or None if it has none.

        For values that are too large to hold; a piece is as it is when it is
        reached.
        """
        key = _bytes(key)
        with self._core.lock:
            self._core.check()
            ino = self._core.table.number_of(key)
            if ino is None or not self._core.table.nodes.is_file(ino):
                return None
        return self._pieces(ino, size)

    def _pieces(self, ino: int, size: int) -> Iterator[bytes]:
        offset = 0
        while True:
            with self._core.lock:
                self._core.check()
                node = self._core.table.nodes.look(ino)  # what it has may lie elsewhere by now
                piece = self._content.read(node, offset, size) if isinstance(node, File) else b""
            if not piece:
                return
            yield piece
            offset += len(piece)

    def delete(self, key: bytes | str) -> bool:
        """Remove `key` and tell whether it was there; if not, nothing is logged."""
        key = _bytes(key)
        with self._core.lock:
            self._core.check(write=True)
            node = self._core.table.find(key)
            if not isinstance(node, File):
                return False
            self.files.remove(node, Delete(key, time=self._core.now()))
            self.files.settle()
            return True

    def look_of(self, key: bytes | str) -> Look | None:
        """Return what the file at `key` has beside its value, or None if `key` has no value."""
        with self._core.lock:
            self._core.check()
            node = self._core.table.look(_bytes(key))
            if not isinstance(node, File):
                return None
            return Look(stat.S_IMODE(node.mode), node.uid, node.gid, dict(node.xattrs or {}))

    def bring_back(self, key: bytes | str, value: bytes, look: Look) -> None:
        """Set the value of `key` and what its file has beside that, the latter first.

        So the value is never more public than `look` has it. Raises as `put` does.
        """
        key = keys.check(_bytes(key))
        core, files = self._core, self.files
        with core.lock:
            core.check(write=True)
            if core.table.find(key) is None:
                attrs = Attrs(mode=look.mode, uid=look.uid, gid=look.gid)
                core.create(Put(key, b"", attrs, core.now()))
            node = core.table.find(key)
            if not isinstance(node, File):
                raise not_a_value(key)
            if (node.uid, node.gid) != (look.uid, look.gid):
                files.setattr(node, Attrs(uid=look.uid, gid=look.gid))
            if stat.S_IMODE(node.mode) != look.mode:
                files.setattr(node, Attrs(mode=look.mode))
            for name in sorted((node.xattrs or {}).keys() - look.xattrs.keys()):
                files.removexattr(node, name)
            for name, content in look.xattrs.items():
                files.setxattr(node, name, content)
            self._replace(key, node, value)
            files.settle()

    def rename(self, old: bytes | str, new: bytes | str) -> bool:
        """Move the value of `old` to the key `new`, in one record; False if there is none.

        A value that `new` had is replaced.
        """
        old, new = _bytes(old), keys.check(_bytes(new))
        core = self._core
        with core.lock:
            core.check(write=True)
            node, target = core.table.find(old), core.table.find(new)
            if not isinstance(node, File):
                return False
            if target is not None and not isinstance(target, File):
                raise not_a_value(new)
            if old != new:
                self._content.commit(node)
                if target is not None:
                    self._content.before_unlink(target)
                core.move(Rename(old, new, time=core.now()))
                self.files.drain()
            self.files.settle()
            return True

    def keys(self, prefix: bytes | str = b"") -> list[bytes]:
        """Return the keys that start with `prefix` and have a value, sorted."""
        prefix = _bytes(prefix)
        with self._core.lock:
            self._core.check()
            return sorted(key for key in self._core.table.valued() if key.startswith(prefix))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key with its value, sorted by key.

        Values are read as they are reached: a key that is deleted meanwhile is
        left out.
        """
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    def __contains__(self, key: bytes | str) -> bool:
        """Tell whether `key` has a value."""
        with self._core.lock:
            self._core.check()
            return isinstance(self._core.table.find(_bytes(key)), File)

    def __len__(self) -> int:
        """Return the number of keys that have a value."""
        with self._core.lock:
            self._core.check()
            return self._core.table.values

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys, sorted."""
        return iter(self.keys())

    # -- the store itself --------------------------------------------------------

    @property
    def path(self) -> str:
        """The directory of the store."""
        return self._core.path

    @property
    def config(self) -> Config:
        """What the store is: its format, segment size and id."""
        return self._core.config

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What keeps the threads apart that use the store; for those who use `files`."""
        return self._core.lock

    def sync(self) -> None:
        """Return once everything put or deleted so far survives a power cut.

        Raises `StoreFailedError` if the disk could not promise it.
        """
        with self._core.lock:
            self._core.check(write=True)
            self._content.commit_all()
        self._core.log.sync()

    @property
    def position(self) -> int:
        """How many records the log has."""
        return self._core.log.sequence

    @property
    def checkpointed(self) -> int:
        """How many records of the log come before the checkpoint that the store was opened from."""
        return self._core.checkpointed

    def live(self) -> Counter[int]:
        """Return how many bytes of each segment, by number, the values of now take."""
        with self._core.lock:
            return self._core.live_bytes()

    @property
    def lost(self) -> int:
        """How many bytes the log is shorter than it was when it was last closed."""
        return self._core.log.lost

    @property
    def synced(self) -> int:
        """How many records of the log survive a power cut."""
        return self._core.log.synced

    def sync_log(self) -> None:
        """Bring what is logged to stable storage; may run in another thread."""
        self._core.log.sync()

    def check_healthy(self) -> None:
        """Raise `StoreFailedError` if the store takes no more writes after a failure."""
        self._core.log.check_writable()

    def compact(
        self,
        retention: Retention | None = None,
        progress: Callable[[int, int], object] = lambda _done, _total: None,
    ) -> str | None:
        """Give back the space of what is dead; return what was left undone, and why.

        `retention` is how much of the past is kept, if not as the store says;
        `progress` is called with the files seen to and those there are. Nobody
        else can use the store meanwhile. Raises what the log and the disk say.
        """
        from kvfs.store.compaction import compact

        with self._core.lock:
            self._core.check(write=True)
            self._content.commit_all()
            return compact(self._core, retention, progress)

    @cached_property
    def background(self) -> Background:
        """What is due beside all else; who only reads for a moment does without."""
        from kvfs.store.background import Background

        return Background(self._core, self._policy)

    def maintain(self) -> float:
        """Do what is due in the background; return the seconds until it is to be called again.

        For who keeps the store open and calls it for as long.
        """
        self._core.on_roll = lambda: None
        self._stop_keeper()
        return self.background.tick() if self._core.writable else inf

    def _note_roll(self) -> None:
        """See to what is due, where nobody calls `maintain`."""
        if self._keeper is None and self.background.watch.is_full():
            from kvfs.store.background import Keeper

            self._keeper = Keeper(self.background.tick)

    def _stop_keeper(self) -> None:
        if self._keeper:
            self._keeper.stop()
            self._keeper = None

    def note_mounted(self) -> None:
        """Tell others, in the lock file, that the mount that holds the store is there.

        And set room aside, so that files can be removed on a full disk.
        """
        self.background.watch.set_aside()
        self._core.note_mounted()

    def close(self) -> None:
        """Sync and close; nothing if closed already."""
        if self._core.writable:
            self.background.stop_soon()
        self._stop_keeper()
        with self._core.lock:
            if self._core.closed:
                return
            full = False
            try:
                if self._core.writable:
                    full = self.background.watch.is_full()
                    self.background.stop()
                    self._content.commit_all()
                    self.files.access_times.commit()
            finally:
                self._content.close()
                self._core.close(full=full)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()
