"""A disk in memory that knows what a power cut can take from it.

Of a file, whatever was written or cut since its last sync is in doubt, sector
by sector, and its size besides. Of a directory, every name made, removed or
moved since its last sync is; a rename happens as a whole or not at all.
`ForgetfulDisk.crash` draws one of the disks that can be found afterwards.
"""

import errno
import os
import stat
import sys
from collections import Counter
from itertools import count

from kvfs.disk import Disk

SECTOR = 512


class _File:
    def __init__(self, durable=b""):
        self.durable = durable
        self.content = bytearray(durable)
        self.changes = []  # (time, offset, data), or (time, size, None) for a cut

    def sizes(self):
        """Return the sizes that the file has had since it was synced, with their times."""
        found = [(0, len(self.durable))]
        for time, at, data in self.changes:
            last = found[-1][1]
            found.append((time, at if data is None else max(last, at + len(data))))
        return found

    def sector(self, number, until):
        """Return a sector as of `until`, and whether it was ever written."""
        start = number * SECTOR
        data = bytearray(self.durable[start : start + SECTOR].ljust(SECTOR, b"\0"))
        written = start < len(self.durable)
        for time, at, new in self.changes:
            if time > until:
                break
            if new is None:
                if at < start + SECTOR:
                    low = max(at - start, 0)
                    data[low:] = bytes(SECTOR - low)
                continue
            low, high = max(at, start), min(at + len(new), start + SECTOR)
            if low < high:
                data[low - start : high - start] = new[low - at : high - at]
                written = True
        return bytes(data), written


class _Directory:
    def __init__(self):
        self.entries = {}
        self.durable = {}


class _Change:
    """Entries of directories that change in one step: (directory, name, what it names then)."""

    def __init__(self, time, *entries):
        self.time = time
        self.entries = entries
        self.waiting = {directory for directory, _, _ in entries}


class ForgetfulDisk(Disk):
    """A disk of one directory, `/disk`, in which stores are made.

    `watch` is called after every operation that changes anything, and after
    every sync. `ignore` names a sync (see `sites`) that is silently left out.
    """

    def __init__(self):
        self._root = _Directory()
        self._names = []
        self.time = 0  # how many changes there have been
        self._next_fd = count(1000)
        self._open = {}
        self._locks = {}
        self.watch = None
        self.ignore = None
        self.sites = Counter()
        top = self._root.entries["disk"] = self._root.durable["disk"] = _Directory()
        self._top = top

    # -- what the operating system does ------------------------------------------------

    def open(self, path, flags, *, directory=None):
        directory, name = self._parent(path, directory)
        node = directory.entries.get(name)
        if node is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, path)
            node = _File()
            self._rename((directory, name, node))
        elif flags & os.O_EXCL:
            raise _error(errno.EEXIST, path)
        elif isinstance(node, _Directory):
            raise _error(errno.EISDIR, path)
        fd = self._descriptor(node)
        if flags & os.O_TRUNC and node.content:
            self.truncate(fd, 0)
        return fd

    def open_directory(self, path):
        return self._descriptor(self._directory(path))

    def open_scratch(self, directory):
        self._directory(directory)
        return self._descriptor(_File())

    def close(self, fd):
        node = self._open.pop(fd)
        if self._locks.get(node) == fd:
            del self._locks[node]

    def size(self, fd):
        return len(self._open[fd].content)

    def read(self, fd, size, offset):
        return bytes(self._open[fd].content[offset : offset + size])

    def write_parts(self, fd, parts, offset):
        self.write(fd, b"".join(parts), offset)

    def start_sync(self, fd, offset, length):
        pass

    def write(self, fd, data, offset):
        file, data = self._open[fd], bytes(data)
        file.changes.append((self._tick(), offset, data))
        file.content.extend(bytes(max(offset - len(file.content), 0)))
        file.content[offset : offset + len(data)] = data
        self._changed()

    def truncate(self, fd, size):
        file = self._open[fd]
        file.changes.append((self._tick(), size, None))
        del file.content[size:]
        file.content.extend(bytes(size - len(file.content)))
        self._changed()

    def sync(self, fd):
        file = self._open[fd]
        if not self._is_ignored("file"):
            file.durable = bytes(file.content)
            file.changes.clear()
        self._changed()

    def sync_directory(self, path):
        directory = self._directory(path)
        if not self._is_ignored(os.path.basename(path)):
            for change in self._names:
                change.waiting.discard(directory)
            for change in [change for change in self._names if not change.waiting]:
                _apply(change, lambda parent: parent.durable)
                self._names.remove(change)
        self._changed()

    def rename(self, old, new):
        (source, name), (target, new_name) = self._parent(old), self._parent(new)
        node = self._node(old)
        replaced = target.entries.get(new_name)
        if isinstance(replaced, _Directory) and replaced.entries:
            raise _error(errno.ENOTEMPTY, new)
        self._rename((source, name, None), (target, new_name, node))

    def exchange(self, first, second):
        one, two = self._parent(first), self._parent(second)
        self._rename((*one, self._node(second)), (*two, self._node(first)))

    def unlink(self, path):
        if isinstance(self._node(path), _Directory):
            raise _error(errno.EISDIR, path)
        self._rename((*self._parent(path), None))

    def mkdir(self, path, *, inside=True):
        directory, name = self._parent(path)
        if name in directory.entries:
            raise _error(errno.EEXIST, path)
        self._rename((directory, name, _Directory()))

    def rmdir(self, path):
        if self._directory(path).entries:
            raise _error(errno.ENOTEMPTY, path)
        self._rename((*self._parent(path), None))

    def list(self, path):
        return list(self._listed(path).entries)

    def stat(self, path, *, directory=None):
        node = self._node(path) if directory is None else self._found(path, directory)
        is_directory = isinstance(node, _Directory)
        mode = stat.S_IFDIR | 0o700 if is_directory else stat.S_IFREG | 0o600
        size = 0 if is_directory else len(node.content)
        return os.stat_result((mode, 1, 1, 1, 0, 0, size, 0, 0, 0))

    def statvfs(self, path):
        return os.statvfs("/")

    def lock_shared(self, fd):
        """Be the only process there is."""

    def lock(self, fd):
        return self._locks.setdefault(self._open[fd], fd) == fd

    # -- what may happen to it -----------------------------------------------------------

    @property
    def descriptors(self):
        """How many files are open."""
        return len(self._open)

    def kill(self):
        """End the process that uses the disk: its descriptors and locks go, all else stays."""
        self._open.clear()
        self._locks.clear()

    def crash(self, loss):
        """Return a disk as `loss` leaves this one after a power cut."""
        names = [change for change in self._names if loss.keeps_name(change.time)]
        entries = {}

        def of(directory):
            return entries.setdefault(directory, dict(directory.durable))

        for change in names:
            _apply(change, of)
        disk = ForgetfulDisk()
        self._copy(self._top, disk._top, of, loss, {})
        return disk

    def files(self, path="/disk"):
        """Return the content of every file below `path`, and None for every directory."""
        found = {}
        for name in self.list(path):
            below = f"{path}/{name}"
            node = self._node(below)
            if isinstance(node, _Directory):
                found[below] = None
                found.update(self.files(below))
            else:
                found[below] = bytes(node.content)
        return found

    def _copy(self, directory, copy, entries, loss, copies):
        for name, node in entries(directory).items():
            if node is None:
                continue
            if isinstance(node, _Directory):
                made = _Directory()
                self._copy(node, made, entries, loss, copies)
            else:
                made = copies.get(node) or _File(loss.content(node))
                copies[node] = made
            copy.entries[name] = copy.durable[name] = made

    # -- helpers ---------------------------------------------------------------------------

    def _rename(self, *entries):
        change = _Change(self._tick(), *entries)
        _apply(change, lambda directory: directory.entries)
        self._names.append(change)
        self._changed()

    def _tick(self):
        self.time += 1
        return self.time

    def _changed(self):
        if self.watch:
            self.watch()

    def _is_ignored(self, what):
        site = _site(what)
        self.sites[site] += 1
        return self.ignore == site or self.ignore == (site, self.sites[site])

    def _descriptor(self, node):
        fd = next(self._next_fd)
        self._open[fd] = node
        return fd

    def _directory(self, path):
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        return node

    def _listed(self, path):
        return self._directory(path) if isinstance(path, str) else self._open[path]

    def _parent(self, path, directory=None):
        parent = os.path.dirname(path) if directory is None else directory
        return self._listed(parent), os.path.basename(path)

    def _found(self, path, directory):
        parent, name = self._parent(path, directory)
        if name not in parent.entries:
            raise _error(errno.ENOENT, path)
        return parent.entries[name]

    def _node(self, path):
        node = self._root
        for name in path.strip("/").split("/") if path != "/" else ():
            if not isinstance(node, _Directory):
                raise _error(errno.ENOTDIR, path)
            node = node.entries.get(name)
            if node is None:
                raise _error(errno.ENOENT, path)
        return node


def _apply(change, entries_of):
    for directory, name, node in change.entries:
        if node is None:
            entries_of(directory).pop(name, None)
        else:
            entries_of(directory)[name] = node


def _error(code, path):
    return OSError(code, os.strerror(code), path)


_THROUGH = {"segment.sync", "log._sync_active", "disk.write_file", "directories.make_directory"}
_UNSAID = {"segment.sync", "log._sync_active"}


def _site(what):
    """Name the place in kvfs that asks for a sync of `what`, from the inside to the outside."""
    frame = sys._getframe(3)
    names = [what]
    while frame:
        module = frame.f_globals["__name__"].rpartition(".")[2]
        name = f"{module}.{frame.f_code.co_name}"
        if name not in _UNSAID:
            names.append(name)
        if name not in _THROUGH:
            break
        frame = frame.f_back
    return " < ".join(names)
