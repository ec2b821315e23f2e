"""Reading tar archives: ustar, pax and GNU, compressed or not, as tar(1) of Linux makes them.

What an archive says is not trusted: a member that no key can have is refused,
and so is an archive that is cut short or damaged.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import tarfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from kvfs.errors import quoted
from kvfs.transfer.entries import PIECE, Entry, check_owner, parse_path, storable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Name, Pieces, Source

_XATTR = "SCHILY.xattr."
_DECIMAL = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]*))?")
_MAX_TARGET = 4095
_MAX_DEVICE = 2**32
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, ValueError, ArithmeticError, RecursionError)
_LABEL = b"V"  # GNU tar's name of a volume
_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}


def read(source: Source) -> Iterator[Entry]:
    """Yield the members of the archive as entries; what one holds must be read before the next.

    Raises `KvfsError` naming the member.
    """
    archive, name = _open(source), b""
    with archive:
        while True:
            with _damage(source, f"behind {quoted(name)}" if name else "at the beginning"):
                member = archive.next()
                archive.members.clear()  # or it would keep them all
            if member is None:
                break
            name = _bytes(member.name)
            with _damage(source, quoted(name)):
                entry = _entry(archive, member, name)
            if entry is not None:
                yield entry
        with _damage(source, f"behind {quoted(name)}"):
            _check_end(archive)


def verify(source: Source) -> Iterator[Entry]:
    """Yield the same, and read what the members hold."""
    for entry in read(source):
        with _damage(source, quoted(b"/".join(entry.name.path))):
            for _ in entry.pieces():
                pass
        yield entry


def _open(source: Source) -> Any:
    """Open the archive; it is Any for the list of its members, which has no type."""
    try:
        return tarfile.open(source.path, "r:*", encoding="utf-8", errors="surrogateescape")
    except (tarfile.TarError, *_DAMAGE):
        raise source.bad("", "this is no tar archive, or it is damaged") from None


@contextmanager
def _damage(source: Source, where: str) -> Iterator[None]:
    """Turn what is raised for a bad archive into an error that names the place."""
    try:
        yield
    except (tarfile.TarError, *_DAMAGE) as error:
        what = str(error) or "the archive is damaged"
        raise source.bad(where, what) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise source.bad(where, str(error)) from None  # of a decompressor


def _check_end(archive: Any) -> None:
    """Raise `ValueError` where the archive does not end as one does; read what is compressed to its end."""
    file: IO[bytes] = archive.fileobj
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise ValueError("the archive is cut short")
    if any(block):
        raise ValueError("this is no header of a member: the archive is damaged")
    while file.read(PIECE):
        pass


def _entry(archive: Any, member: tarfile.TarInfo, raw: bytes) -> Entry | None:
    """Return the member as an entry; None for what is the mount's own or the archive's.

    Raises `ValueError` with a reason.
    """
    if member.type == _LABEL:
        return None
    name = parse_path(raw)
    if name is None:
        return None
    check_owner(member.uid, member.gid)
    entry = Entry(
        name,
        stat.S_IFREG | (member.mode & 0o7777),
        member.uid,
        member.gid,
        _mtime(member),
        _xattrs(member),
    )
    if not name.key and not name.aside and not member.isdir():
        raise ValueError("the root cannot be anything but a directory")
    if member.islnk():
        return entry._replace(link=_link(member))
    if member.isreg():
        ranges = _ranges(member)
        file = archive.fileobj
        return entry._replace(
            size=member.size, pieces=lambda: _pieces(file, member.offset_data, ranges)
        )
    kind = _KINDS.get(member.type)
    if kind is None:
        raise ValueError(f"members of the type {member.type!r} cannot be imported")
    if name.aside and kind == stat.S_IFDIR:
        raise ValueError("no directory can be there")
    entry = entry._replace(mode=kind | (member.mode & 0o7777))
    if kind == stat.S_IFLNK:
        return entry._replace(target=_target(member))
    if kind in {stat.S_IFCHR, stat.S_IFBLK}:
        return entry._replace(rdev=_device(member))
    return entry


def _link(member: tarfile.TarInfo) -> Name:
    link = parse_path(_bytes(member.linkname))
    if link is None or not link.path:
        raise ValueError("this is a hard link to what is no key")
    return link


def _target(member: tarfile.TarInfo) -> bytes:
    target = _bytes(member.linkname)
    if not 0 < len(target) <= _MAX_TARGET or b"\0" in target:
        raise ValueError("the target of this symbolic link is impossible")
    return target


def _device(member: tarfile.TarInfo) -> int:
    headers = member.pax_headers
    major = int(headers.get("SCHILY.devmajor") or member.devmajor)
    minor = int(headers.get("SCHILY.devminor") or member.devminor)
    if not (0 <= major < _MAX_DEVICE and 0 <= minor < _MAX_DEVICE):
        raise ValueError("the number of this device is impossible")
    return os.makedev(major, minor)


def _mtime(member: tarfile.TarInfo) -> int:
    """Return the time in nanoseconds, which the archive's own text has more exactly."""
    found = _DECIMAL.fullmatch(member.pax_headers.get("mtime", ""))
    if found is None:
        return storable(int(member.mtime) * 1_000_000_000)
    sign, seconds, fraction = found.groups()
    time = int(seconds + (fraction or "").ljust(9, "0")[:9])
    return storable(-time if sign else time)


def _xattrs(member: tarfile.TarInfo) -> dict[bytes, bytes]:
    """Return the extended attributes; `%` and `=` in names are escaped, as in GNU tar."""
    found = {}
    for keyword, value in member.pax_headers.items():
        if keyword.startswith(_XATTR):
            name = _bytes(keyword.removeprefix(_XATTR))
            found[name.replace(b"%3D", b"=").replace(b"%25", b"%")] = _bytes(value)
    return found


def _ranges(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Return (offset, length) of the data of a member, one after the other in the archive."""
    if member.sparse is None:
        return [(0, member.size)]
    ranges: list[tuple[int, int]] = list(cast("Any", member.sparse))
    end = 0
    for offset, length in ranges:
        if offset < end or length < 0:
            raise ValueError("the map of its holes is damaged")
        end = offset + length
    if end > member.size:
        raise ValueError("the map of its holes is damaged")
    return ranges


def _pieces(file: IO[bytes], start: int, ranges: list[tuple[int, int]]) -> Pieces:
    """Yield the data. Raises `ValueError` where the archive ends before."""
    for offset, length in ranges:
        for skip in range(0, length, PIECE):
            file.seek(start + skip)
            data = file.read(min(PIECE, length - skip))
            if len(data) < min(PIECE, length - skip):
                raise ValueError("the archive is cut short")
            yield offset + skip, data
        start += length


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
