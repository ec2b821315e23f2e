"""Operations on a directory: how to do them, what they make of a tree, what a crash may leave.

A tree maps paths to nodes; paths of one file share its node. An operation is
`do`ne below the working directory and `apply`d to a tree. `during` gives the
trees that may be found if the daemon ended before the operation returned: by
its death, or cleanly, when what was written to open files is logged as it is.
"""

import os
import random
from bisect import bisect_left
from copy import deepcopy
from typing import NamedTuple

SMALL = 1024 * 1024  # P5 of docs/promises.md holds up to this size
DIRECTORY = "directory"


class File:
    """A regular file; its number is None where nobody has seen it yet."""

    def __init__(self, content, mode=0o644, ino=None):
        self.content, self.mode, self.ino = content, mode, ino


class Partly(NamedTuple):
    """The content `old` with the first bytes of `new`, `least` or more, at `offset`."""

    old: bytes
    offset: int
    new: bytes
    least: int = 0

    def fits(self, found):
        done = _common(found[self.offset :], self.new)
        whole = self.old[: self.offset] + self.new[:done] + self.old[self.offset + done :]
        return done >= self.least and found == whole


def value(seed, size):
    """Return the bytes that `seed` stands for."""
    return random.Random(seed).randbytes(size)


def _common(first, second):
    """Return the length of the longest common prefix."""
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect_left(lengths, True, key=lambda length: first[:length] != second[:length])


def _write(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _with(tree, path, content):
    """Return `tree` with `content` in the file at `path`, which may be new."""
    changed = deepcopy(tree)
    if path in changed:
        changed[path].content = content
    else:
        changed[path] = File(content)
    return changed


class _Operation:
    def during(self, tree, *, clean):
        """One record, or none: the old state or the new one."""
        changed = deepcopy(tree)
        self.apply(changed, None)
        return [tree, changed]


class _Make(NamedTuple):
    path: str
    size: int
    seed: int
    synced: int | None  # so many bytes are written before an fsync


class Make(_Make, _Operation):
    """Make a file, or empty it, write and close it."""

    def do(self, mark):
        data = value(self.seed, self.size)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            if self.synced is not None:
                _write(fd, data[: self.synced])
                os.fsync(fd)
                mark()
            _write(fd, data[self.synced or 0 :])
            ino = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        return ino

    def apply(self, tree, ino):
        file = tree.setdefault(self.path, File(b""))
        file.content = value(self.seed, self.size)
        file.ino = file.ino or ino

    def during(self, tree, *, clean, marked=False):
        data = value(self.seed, self.size)
        if marked:
            return [_with(tree, self.path, Partly(b"", 0, data, self.synced))]
        if clean or self.size > SMALL:
            return [tree, _with(tree, self.path, Partly(b"", 0, data))]
        logged = data if self.synced is None else data[: self.synced]
        return [tree, _with(tree, self.path, logged)]


class _Patch(NamedTuple):
    path: str
    offset: int | None  # None appends
    size: int
    seed: int


class Patch(_Patch, _Operation):
    """Write into a file in place, or append to it, and close it."""

    def do(self, mark):
        flags = os.O_WRONLY | (os.O_APPEND if self.offset is None else 0)
        fd = os.open(self.path, flags)
        try:
            if self.offset is not None:
                os.lseek(fd, self.offset, os.SEEK_SET)
            _write(fd, value(self.seed, self.size))
        finally:
            os.close(fd)

    def _at(self, tree):
        old = tree[self.path].content
        return old, len(old) if self.offset is None else self.offset

    def apply(self, tree, result):
        old, offset = self._at(tree)
        new = value(self.seed, self.size)
        tree[self.path].content = old[:offset] + new + old[offset + self.size :]

    def during(self, tree, *, clean):
        old, offset = self._at(tree)
        return [_with(tree, self.path, Partly(old, offset, value(self.seed, self.size)))]


class _Scratch(NamedTuple):
    path: str
    size: int
    seed: int


class Scratch(_Scratch, _Operation):
    """Make a file and remove its name before anything is written: the log never knows it."""

    def do(self, mark):
        data = value(self.seed, self.size)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.unlink(self.path)
            _write(fd, data)
            assert os.pread(fd, len(data) + 1, 0) == data, "a file without a name lost its content"
        finally:
            os.close(fd)

    def apply(self, tree, result):
        pass

    def during(self, tree, *, clean):
        return [tree, _with(tree, self.path, b"")] if clean else [tree]


class _Pair(NamedTuple):
    old: str
    new: str


class Rename(_Pair, _Operation):
    """Move a file or a directory, over what has the name."""

    def do(self, mark):
        os.rename(self.old, self.new)

    def apply(self, tree, result):
        if tree[self.old] is tree.get(self.new) and tree[self.old] != DIRECTORY:
            return  # two names of one file: rename(2) does nothing
        for path in [self.old, *below(tree, self.old)]:
            tree[self.new + path[len(self.old) :]] = tree.pop(path)


class Link(_Pair, _Operation):
    """Give a file another name."""

    def do(self, mark):
        os.link(self.old, self.new)

    def apply(self, tree, result):
        tree[self.new] = tree[self.old]


class _Path(NamedTuple):
    path: str


class Unlink(_Path, _Operation):
    """Remove the name of a file."""

    def do(self, mark):
        os.unlink(self.path)

    def apply(self, tree, result):
        del tree[self.path]


class Mkdir(_Path, _Operation):
    """Make a directory."""

    def do(self, mark):
        os.mkdir(self.path)

    def apply(self, tree, result):
        tree[self.path] = DIRECTORY


class Rmdir(_Path, _Operation):
    """Remove an empty directory."""

    def do(self, mark):
        os.rmdir(self.path)

    def apply(self, tree, result):
        del tree[self.path]


class Fsync(_Path, _Operation):
    """Sync a file or a directory."""

    def do(self, mark):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def apply(self, tree, result):
        pass


class _Number(NamedTuple):
    path: str
    number: int


class Truncate(_Number, _Operation):
    """Cut or extend a file."""

    def do(self, mark):
        os.truncate(self.path, self.number)

    def apply(self, tree, result):
        file = tree[self.path]
        file.content = file.content[: self.number].ljust(self.number, b"\0")


class Chmod(_Number, _Operation):
    """Change the mode of a file."""

    def do(self, mark):
        os.chmod(self.path, self.number)

    def apply(self, tree, result):
        tree[self.path].mode = self.number


def below(tree, directory):
    """Return the paths below `directory`."""
    return [path for path in tree if path.startswith(directory + "/")]


KINDS = {
    kind.__name__: kind
    for kind in (Make, Patch, Scratch, Rename, Link, Unlink, Mkdir, Rmdir, Fsync, Truncate, Chmod)
}
