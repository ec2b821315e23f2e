"""The dump of a Redis or Valkey server: an RDB file.

String keys are taken, of one database, with the time that they have left; what has
expired is passed over, as Redis does. Other values are no strings of bytes:
`rdb_others` knows where they end.

Format: https://rdb.fnordig.de/file_format.html, and rdb.c and rdb.h of Redis.
"""

from __future__ import annotations

import mmap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvfs.errors import quoted
from kvfs.transfer.entries import PIECE, Pair
from kvfs.transfer.rdb_bytes import BadDumpError, Reader, crc64
from kvfs.transfer.rdb_others import NAMES, STRING, skip, skip_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Source

MAGIC = b"REDIS"
_HEADER = 9  # bytes: the magic and four digits
_CHECKED = 5  # since this version there is a checksum
_SUM = 8  # bytes of it
_EOF, _DATABASE, _EXPIRE, _EXPIRE_MS = 0xFF, 0xFE, 0xFD, 0xFC
_RESIZE, _AUX, _FREQUENCY, _IDLE, _MODULE_AUX = 0xFB, 0xFA, 0xF9, 0xF8, 0xF7
_FUNCTION, _SLOT = 0xF5, 0xF4
_LENGTHS = {_RESIZE: 2, _IDLE: 1, _SLOT: 3}
"""How many lengths are behind a code."""
_CENTURY = 100 * 365 * 86_400 * 1000
EXPIRED = "keys that have expired"
ELSEWHERE = "keys of other databases"


def read(source: Source) -> Iterator[Pair]:
    """Yield the keys and values, and how long some are to live, of the database whose number `source.table` is, or of the only one.

    Raises `KvfsError` naming the offset, or the key that is no string.
    """
    with _opened(source) as data:
        yield from _pairs(source, data)


def verify(source: Source) -> Iterator[Pair]:
    """Yield the same, and see whether the checksum at the end is right."""
    with _opened(source) as data:
        yield from _pairs(source, data)
        _check(source, data)


@contextmanager
def _opened(source: Source) -> Iterator[mmap.mmap]:
    with open(source.path, "rb") as file:
        head = file.read(_HEADER)
        if not (head.startswith(MAGIC) and head[len(MAGIC) :].isdigit()):
            raise source.bad("", "this is no dump of Redis")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _check(source: Source, data: mmap.mmap) -> None:
    """Raise `KvfsError` where the checksum is wrong; all zeros are none."""
    if int(data[len(MAGIC) : _HEADER]) < _CHECKED:
        return
    end = len(data) - _SUM
    stored = int.from_bytes(data[end:], "little")
    if stored == 0:
        return
    crc = 0
    for start in range(0, end, PIECE):
        crc = crc64(data[start : min(start + PIECE, end)], crc)
    if crc != stored:
        raise source.bad("", "the checksum does not fit: the dump is damaged")


def _pairs(source: Source, data: mmap.mmap) -> Iterator[Pair]:
    reader = Reader(data, _HEADER)
    trailer = _SUM if int(data[len(MAGIC) : _HEADER]) >= _CHECKED else 0
    try:
        yield from _keys(source, reader)
        if len(data) - reader.position != trailer:
            raise BadDumpError("the file does not end where it should")
    except BadDumpError as error:
        raise source.bad(f"offset {reader.position}", str(error)) from None


def _keys(source: Source, reader: Reader) -> Iterator[Pair]:
    """Yield the keys and values up to the end, and leave `reader` behind that."""
    database, chosen = 0, _chosen(source)
    now, expiry = time.time() * 1000, None
    while (code := reader.byte()) != _EOF:
        if code == _DATABASE:
            database = reader.length()
        elif code == _EXPIRE:
            expiry = reader.number("<i") * 1000
        elif code == _EXPIRE_MS:
            expiry = reader.number("<q")
        elif code >= _SLOT:
            _skip_note(reader, code)
        else:
            key = reader.string()
            left, expiry = None if expiry is None else expiry - now, None
            expired = left is not None and left <= 0
            if expired or (source.table is not None and database != chosen):
                source.skipped[EXPIRED if expired else ELSEWHERE] += 1
            else:
                chosen = database if chosen is None else chosen
                if database != chosen:
                    what = f"there are keys in the databases {chosen} and {database}"
                    raise BadDumpError(f"{what}; choose one with --table NUMBER")
                if code == STRING:
                    yield Pair(key, reader.string(), _lifetime(left))
                    continue
                _note_other(source, key, code)
            if code == STRING:
                reader.skip_string()
            else:
                skip(reader, code)


def _lifetime(left: float | None) -> str | None:
    """Return the `left` milliseconds of a key as its lifetime; what is longer than any is for ever."""
    return None if left is None or left > _CENTURY else f"{left / 1000:.3f}s"


def _chosen(source: Source) -> int | None:
    """Return the number of the database to take, if one was named."""
    if source.table is None:
        return None
    if not (source.table.isascii() and source.table.isdigit()):
        raise source.bad("", f"the databases of Redis have numbers, and {source.table!r} is none")
    return int(source.table)


def _note_other(source: Source, key: bytes, code: int) -> None:
    """Count a key that is no string, or raise `BadDumpError` where that is not to be passed over."""
    name = NAMES.get(code, f"value of the type {code}")
    if not source.skip_others:
        what = f"the key {quoted(key)} is a {name}, and only strings can be imported"
        raise BadDumpError(f"{what}; --skip-others passes over such keys")
    source.skipped[f"keys that are a {name}"] += 1


def _skip_note(reader: Reader, code: int) -> None:
    """Go on behind what an RDB file says that is no key."""
    if code == _AUX:
        reader.skip_string()
        reader.skip_string()
    elif code == _FUNCTION:
        reader.skip_string()
    elif code == _MODULE_AUX:
        skip_module(reader)
    elif code == _FREQUENCY:
        reader.pass_over(1)
    elif code in _LENGTHS:
        for _ in range(_LENGTHS[code]):
            reader.length()
    else:
        raise BadDumpError(f"the code {code} is not known")
