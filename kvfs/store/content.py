"""The content of files: what is logged, and over it what is not logged yet.

Promises. A file of up to `SMALL` bytes that is made or cut to nothing,
written and committed is one batch: its key has the old value or the new one,
never a part. A file that is unlinked before it was committed leaves no trace
in the log.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kvfs.codec.base import CHUNK, Data
from kvfs.errors import (
    CorruptionError,
    KvfsError,
    PosixError,
    RecordTooLargeError,
    StoreFailedError,
)
from kvfs.keys import MAX_KEY
from kvfs.records import NO_ATTRS, Attrs, Put, Setxattr, Truncate, Write
from kvfs.store.pending import HOLE, Pending
from kvfs.store.scratch import Scratch
from kvfs.table.content import Extent, within
from kvfs.table.table import DEFAULT_MODE, MAX_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store.core import Core
    from kvfs.table import File

MAX_OVERHEAD = 3 * MAX_KEY + 1024
"""More bytes than a put takes beside its data."""


class Content:
    """Reads and changes the content of the files of one store."""

    def __init__(self, core: Core) -> None:
        """Work on the files of `core`."""
        self._core = core
        self._pending: dict[int, Pending] = {}
        self._scratch = Scratch(core.disk, core.path)

    # -- reading -------------------------------------------------------------

    def pending(self, node: File) -> Pending | None:
        """Return what of `node` is not logged."""
        return self._pending.get(node.ino)

    def has_pending(self, ino: int) -> bool:
        """Tell whether something of the file `ino` is not logged."""
        return ino in self._pending

    def unlogged(self) -> list[File]:
        """Return the files that have something which is not logged."""
        return [pending.node for pending in self._pending.values()]

    def size(self, node: File) -> int:
        """Return the size of `node` in bytes, as its users see it."""
        pending = self._pending.get(node.ino)
        return pending.size if pending else node.length

    def blocks(self, node: File) -> int:
        """Return how many units of 512 bytes the data of `node` takes."""
        pending = self._pending.get(node.ino)
        if pending is None:
            return node.blocks
        length = len(pending.buffer)
        if not pending.replaced:
            covered = within(node.extents, pending.start, pending.end)
            length += sum(extent.length for extent in node.extents)
            length -= sum(extent.length for extent in covered)
        return -(-length // 512)

    def value(self, node: File) -> bytes:
        """Return all of the content of `node`."""
        return self.read(node, 0, self.size(node))

    def read(self, node: File, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file.

        Raises `CorruptionError` where stored bytes do not verify.
        """
        pending = self._pending.get(node.ino)
        if pending:
            if pending.replaced:
                return bytes(pending.buffer[offset : offset + size])
            return self._under_run(pending, offset, min(offset + size, pending.size))
        return self._logged(node, offset, size)

    def _logged(self, node: File, offset: int, size: int) -> bytes:
        end = min(offset + size, node.length)
        extents = node.extents
        if len(extents) == 1 and extents[0].start <= offset and extents[0].end >= end > offset:
            return self._extent(node, extents[0].part(offset, end))
        return self._gather(node, offset, end)

    def _under_run(self, pending: Pending, offset: int, end: int) -> bytes:
        """Return the bytes from `offset` to `end`, with the run over what is logged."""
        logged = self._logged(pending.node, offset, end - offset)
        data = bytearray(logged.ljust(max(end - offset, 0), b"\0"))
        low, high = max(offset, pending.start), min(end, pending.end)
        if low < high:
            part = pending.buffer[low - pending.start : high - pending.start]
            data[low - offset : high - offset] = part
        return bytes(data)

    def _gather(self, node: File, offset: int, end: int) -> bytes:
        parts: list[bytes] = []
        position = offset
        for extent in within(node.extents, offset, end):
            parts += (bytes(extent.start - position), self._extent(node, extent))
            position = extent.end
        parts.append(bytes(max(end - position, 0)))
        return b"".join(parts)

    def _extent(self, node: File, extent: Extent) -> bytes:
        scratch = self._scratch.read(node, extent)
        if scratch is not None:
            return scratch
        data: bytes = self._core.read_record(extent.location).data
        part = data[extent.skip : extent.skip + extent.length]
        if len(part) != extent.length:
            message = f"the record at {extent.location} is shorter than its extent"
            raise CorruptionError(message)
        return part

    def next_data(self, node: File, offset: int) -> int | None:
        """Return where data is found from `offset` on, or None if there are only holes."""
        starts = [max(low, offset) for low, high in self._data(node, offset) if high > offset]
        return min(starts, default=None)

    def next_hole(self, node: File, offset: int) -> int:
        """Return where the first hole from `offset` on is; the end of the file is one."""
        for low, high in sorted(self._data(node, offset)):
            if low <= offset < high:
                offset = high
        return min(offset, self.size(node))

    def _data(self, node: File, offset: int) -> Iterator[tuple[int, int]]:
        """Yield where data begins and ends, as far as it ends behind `offset`; these may overlap."""
        pending = self._pending.get(node.ino)
        if pending and pending.buffer:
            yield pending.start, pending.end
        if not (pending and pending.replaced):
            for extent in within(node.extents, offset, node.length):
                yield extent.start, extent.end

    # -- changing --------------------------------------------------------------

    def created(self, node: File, born: int) -> None:
        """Note that `node` is new and the log does not know it."""
        self._pending[node.ino] = Pending(node, replaced=True, born=born)

    def replace(self, node: File, value: bytes) -> None:
        """Make `value` the whole content of `node` and log it."""
        kept = self._pending.get(node.ino)
        fresh = Pending(node, replaced=True, born=kept.born if kept else None)
        fresh.buffer += value
        fresh.touched = self._now(node)
        self._pending[node.ino] = fresh
        try:
            self.commit(node)
        except BaseException:
            del self._pending[node.ino]
            if kept:
                self._pending[node.ino] = kept
            raise

    def write(self, node: File, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; it is logged at the next `commit`, or before.

        Raises `PosixError` EFBIG beyond the largest offset, `RecordTooLargeError`
        where the codec must hold the file in one record and cannot, or what
        the log says.
        """
        if offset + len(data) > MAX_FILE:
            raise PosixError(errno.EFBIG)
        now = self._now(node)
        pending = self._pending.get(node.ino)
        if pending and pending.replaced and pending.takes(offset, len(data)):
            self._put(pending, offset, data)
        elif node.nlink == 0:
            self._leave_buffer(node)
            self._scratch.write(node, offset, data)
            node.mtime = node.ctime = now
            return
        else:
            if pending and pending.replaced:
                self.commit(node)
                pending = None
            pending = pending or self._pending.setdefault(node.ino, Pending(node, replaced=False))
            self._extend_run(pending, offset, data, now)
        pending.touched = now
        pending.explicit.discard("mtime")

    def write_through(self, node: File, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset` and log it. Raises as `write` and `commit` do."""
        core = self._core
        if node.ino in self._pending or node.nlink == 0 or len(data) > core.whole:
            self.write(node, offset, data)
            self.commit(node)
        elif offset + len(data) > MAX_FILE:
            raise PosixError(errno.EFBIG)
        else:
            core.commit(Write(core.table.key_of(node), offset, data, core.after(node.ctime)))

    def changed(self, node: File) -> int:
        """Return the time of the last change of `node`, as its users see it, in nanoseconds."""
        pending = self._pending.get(node.ino)
        return max(node.ctime, pending.touched or 0) if pending else node.ctime

    def _now(self, node: File) -> int:
        return self._core.after(self.changed(node))

    def _put(self, pending: Pending, offset: int, data: bytes | memoryview) -> None:
        """Put `data` into the buffer, if the file still fits into a record then."""
        core, node = self._core, pending.node
        worst = 3 * max(offset + len(data), len(pending.buffer)) + MAX_OVERHEAD
        if core.log.codec.atomic or worst <= core.log.max_record or node.nlink == 0:
            pending.put(offset, data)
            return
        before = bytes(pending.buffer)
        pending.put(offset, data)
        try:
            core.log.check_fits(Put(core.table.key_of(node), bytes(pending.buffer)))
        except RecordTooLargeError:
            pending.buffer = bytearray(before)
            raise

    def truncate(self, node: File, size: int) -> None:
        """Cut the file to `size` bytes, or extend it by a hole."""
        if size > MAX_FILE:
            raise PosixError(errno.EFBIG)
        now = self._now(node)
        pending = self._pending.get(node.ino)
        if pending and pending.replaced and size <= len(pending.buffer) + HOLE:
            grown = size - len(pending.buffer)
            if grown > 0:
                self._put(pending, len(pending.buffer), bytes(grown))
            else:
                pending.resize(size)
        elif node.nlink == 0:
            self._leave_buffer(node)
            self._scratch.resize(node, size)
            node.mtime = node.ctime = now
            return
        elif size == 0:
            pending = self._pending[node.ino] = Pending(node, replaced=True)
        else:
            self.commit(node)
            self._core.commit(Truncate(self._core.table.key_of(node), size, now))
            return
        pending.touched = now
        pending.explicit.discard("mtime")

    def commit(self, node: File) -> None:
        """Log what is pending of `node`, if anything.

        Raises what the log says; then it is still pending.
        """
        pending = self._pending.get(node.ino)
        if pending is None or node.nlink == 0:
            return
        if pending.replaced:
            self._log_value(pending)
        else:
            self._log_run(pending)
        self._pending.pop(node.ino, None)

    def commit_all(self) -> None:
        """Log all that is pending; the first error is raised after the last try."""
        first: Exception | None = None
        for pending in list(self._pending.values()):
            try:
                self.commit(pending.node)
            except Exception as error:  # noqa: BLE001 - whatever one has, the others are logged
                first = first or error
        if first:
            raise first

    def commit_names(self, directory: int) -> None:
        """Log the files in `directory` that the log does not know."""
        for pending in list(self._pending.values()):
            if pending.created and pending.node.parent == directory:
                self.commit(pending.node)

    def commit_runs(self) -> None:
        """Log what has been added to files in place; what replaces a file waits for its end."""
        for pending in list(self._pending.values()):
            if not pending.replaced:
                try:
                    self._log_run(pending)
                except StoreFailedError:
                    raise
                except KvfsError:
                    continue  # those who close it are told

    def before_unlink(self, node: File, *, open: bool = False) -> bool:  # noqa: A002 - the word for it
        """Prepare for `node` to lose a name; tell whether the log knows the name.

        What is pending of its last name is not worth a record, but for what
        readers of an `open` file would look for in the log.
        """
        pending = self._pending.get(node.ino)
        if pending is None:
            return True
        if node.nlink > 1 or (open and not pending.replaced):
            self.commit(node)
            return True
        return not pending.created

    def drop(self, node: File) -> None:
        """Forget what of `node` is not logged."""
        self._pending.pop(node.ino, None)

    def forget(self, node: File) -> None:
        """Free what is kept for a node that has no name and no user any more."""
        self.drop(node)
        self._scratch.forget(node)

    def close(self) -> None:
        """Free everything."""
        self._scratch.close()
        self._pending.clear()

    # -- logging -----------------------------------------------------------------

    def _extend_run(
        self, pending: Pending, offset: int, data: bytes | memoryview, now: int
    ) -> None:
        """Add to the run, logging what is complete: the run before, or whole records.

        What cannot be logged is not added, so that a refused write leaves nothing.
        """
        if pending.buffer and offset != pending.end:
            self._log_run(pending)
        if self._core.tight and pending.node.nlink:
            key = self._core.table.key_of(pending.node)
            self._core.check_fits(Write(key, offset + len(data), b"x", now))
        start = pending.start if pending.buffer else offset
        run: Data = pending.buffer + data if pending.buffer else data
        whole = len(run) - len(run) % CHUNK if pending.node.nlink else 0
        if whole:
            record = Write(self._core.table.key_of(pending.node), 0, b"", now)
            with memoryview(run) as view:
                self._core.commit(*self._core.write_parts(record, start, view[:whole]))
        pending.start, pending.buffer = start + whole, bytearray(run[whole:])

    def _log_run(self, pending: Pending) -> None:
        if pending.buffer and pending.node.nlink:
            key = self._core.table.key_of(pending.node)
            record = Write(key, 0, b"", pending.touched or self._core.now())
            self._core.commit(*self._core.write_parts(record, pending.start, pending.buffer))
            pending.start = pending.end
            pending.buffer = bytearray()

    def _log_value(self, pending: Pending) -> None:
        node, core = pending.node, self._core
        key = core.table.key_of(node)
        time = max(node.ctime, pending.touched or 0)
        if not core.log.codec.keeps_time and "mtime" not in pending.explicit:
            time = pending.touched or node.mtime  # no record says otherwise
        record = Put(key, b"", self._attrs(pending, time), time)
        value = bytes(pending.buffer)
        if pending.created:
            xattrs = node.xattrs or {}
            more = [Setxattr(key, name, value, time=time) for name, value in xattrs.items()]
            core.create(record, *more, value=value, ino=node.ino)
        else:
            core.commit(*core.put_parts(record, value))

    def _attrs(self, pending: Pending, time: int) -> Attrs:
        """Return what a replay of the put would not find out by itself."""
        node, table = pending.node, self._core.table
        explicit, touched = pending.explicit, pending.touched
        keeps = self._core.log.codec.keeps_time
        mtime: int | None = node.mtime if touched is None or "mtime" in explicit else touched
        if mtime == time or not (keeps or "mtime" in explicit):
            mtime = None
        if not pending.created:
            return NO_ATTRS if mtime is None else Attrs(mtime=mtime)
        mode = node.mode & 0o7777
        attrs = Attrs(
            mode=mode if mode != DEFAULT_MODE else None,
            uid=node.uid if node.uid != table.uid else None,
            gid=node.gid if node.gid != table.gid else None,
            atime=node.atime
            if node.atime != pending.born and (keeps or "atime" in explicit)
            else None,
            mtime=mtime,
            born=pending.born if pending.born != time and keeps else None,
        )
        return NO_ATTRS if attrs == NO_ATTRS else attrs

    def _leave_buffer(self, node: File) -> None:
        """Bring what a nameless file has in memory to its scratch file."""
        pending = self._pending.pop(node.ino, None)
        if pending and pending.replaced:
            node.extents, node.length = [], 0
            self._scratch.write(node, 0, pending.buffer)
