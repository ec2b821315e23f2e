"""A directory of the system with everything that is in it, as `cp -a` has it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvfs import keys
from kvfs.errors import KvfsError, quoted
from kvfs.transfer.copying import Plan, copy
from kvfs.transfer.directory import Below, DirectoryTarget, handle, read_xattrs
from kvfs.transfer.entries import PIECE, Entry, parse_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.transfer.entries import Counts, Name, Pieces, Source


def write(
    entries: Callable[[], Iterator[Entry]], directory: str, advance: Callable[[int], object]
) -> Counts:
    """Bring the entries to `directory`, which must be new or empty.

    Raises `KvfsError` ENOTEMPTY, or what the system says.
    """
    try:
        os.mkdir(directory)
    except FileExistsError:
        if os.listdir(directory):
            message = f"{directory} is not empty"
            raise KvfsError(message, errno.ENOTEMPTY) from None
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    target = DirectoryTarget(root)
    try:
        counts = copy(Plan(entries, entries), target, advance)
        os.fsync(root)
    finally:
        target.close()
        os.close(root)
    return counts


def read(source: Source) -> Iterator[Entry]:
    """Yield what is in the directory; what a file holds must be read before the next.

    Raises `KvfsError` naming what no store can have.
    """
    root = os.open(source.path, os.O_RDONLY | os.O_DIRECTORY)
    below = Below(root)
    links: dict[tuple[int, int], Name] = {}
    try:
        for names in _walk(below):
            with _place(source, names):
                entry = _entry(below, names, links)
            if entry is not None:
                yield entry
    finally:
        below.close()
        os.close(root)


@contextmanager
def _place(source: Source, names: list[bytes]) -> Iterator[None]:
    """Let what is raised name the file."""
    try:
        yield
    except ValueError as error:
        raise source.bad(quoted(b"/".join(names)), str(error)) from None
    except OSError as error:
        place = os.path.join(source.name, os.fsdecode(b"/".join(names)))
        raise KvfsError(f"{place}: {error.strerror}", error.errno) from error


def _walk(below: Below) -> Iterator[list[bytes]]:
    """Yield the names on the way to each file: a directory, what is in it, then what is below that.

    A mount does not list the keys that are no paths, which come last.
    """
    aside = [keys.CONTROL, keys.KEYS]
    todo: list[list[bytes]] = [aside, []]
    while todo:
        names = todo.pop()
        if names is aside and not _is_directory(below, aside):
            return
        yield names
        directories = []
        for name, is_directory in _list(below, names):
            if names or name != keys.CONTROL:
                if is_directory:
                    directories.append([*names, name])
                else:
                    yield [*names, name]
        todo += reversed(directories)


def _is_directory(below: Below, names: list[bytes]) -> bool:
    try:
        return stat.S_ISDIR(below.stat(names).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _list(below: Below, names: list[bytes]) -> list[tuple[bytes, bool]]:
    """Return the names in a directory, sorted, and whether each is a directory."""
    with os.scandir(below.open(names)) as found:
        return sorted((os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in found)


def _entry(below: Below, names: list[bytes], links: dict[tuple[int, int], Name]) -> Entry | None:
    """Return what is at `names`; None for a directory that is the mount's own.

    Raises `ValueError` with a reason.
    """
    name = parse_path(b"/".join(names))
    if name is None:
        return None
    info = below.stat(names)
    if name.aside and stat.S_ISDIR(info.st_mode):
        raise ValueError("no directory can be there")
    above, last = below.open(names[:-1]), names[-1] if names else b"."
    xattrs = read_xattrs(handle(above, last))
    entry = Entry(name, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, xattrs)
    if stat.S_ISDIR(info.st_mode):
        return entry
    if info.st_nlink > 1:
        first = links.setdefault((info.st_dev, info.st_ino), name)
        if first is not name:
            return entry._replace(link=first)
    if stat.S_ISREG(info.st_mode):
        return entry._replace(size=info.st_size, pieces=lambda: _pieces(below, names))
    if stat.S_ISLNK(info.st_mode):
        return entry._replace(target=os.readlink(last, dir_fd=above))
    return entry._replace(rdev=info.st_rdev)


def _pieces(below: Below, names: list[bytes]) -> Pieces:
    """Yield the data of a file, without its holes."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(names[-1], flags, dir_fd=below.open(names[:-1]))
    try:
        end = 0
        while (start := _next_data(fd, end)) is not None:
            end = os.lseek(fd, start, os.SEEK_HOLE)
            for offset in range(start, end, PIECE):
                yield offset, os.pread(fd, min(PIECE, end - offset), offset)
    finally:
        os.close(fd)


def _next_data(fd: int, offset: int) -> int | None:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
