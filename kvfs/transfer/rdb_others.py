"""What an RDB file has beside strings: how to go on behind it, and what people call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.transfer.rdb_bytes import BadDumpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.transfer.rdb_bytes import Reader

STRING = 0
_SPECIAL_DOUBLE = 253  # not a number; the infinities are above
_MODULE_END, _MODULE_FLOAT, _MODULE_DOUBLE, _MODULE_STRING = 0, 3, 4, 5
_MODULE_NUMBERS = (1, 2)
_ID = 16  # bytes of the id of an entry of a stream
_TIME = 8

NAMES = (
    dict.fromkeys((1, 10, 14, 18), "list")
    | dict.fromkeys((2, 11, 20), "set")
    | dict.fromkeys((3, 5, 12, 17), "sorted set")
    | dict.fromkeys((4, 9, 13, 16, 22, 23, 24, 25), "hash")
    | dict.fromkeys((15, 19, 21), "stream")
    | dict.fromkeys((6, 7), "value of a module")
)
"""The types that are known, but for strings."""


def skip(reader: Reader, kind: int) -> None:
    """Go on behind a value of the type `kind`. Raises `BadDumpError` for one that is not known."""
    skip_one = _SKIPS.get(kind)
    if skip_one is None:
        raise BadDumpError(f"values of the type {kind} are not known")
    skip_one(reader)


def skip_module(reader: Reader) -> None:
    """Go on behind the data of a module, which begins with its id."""
    reader.length()
    while (code := reader.length()) != _MODULE_END:
        if code in _MODULE_NUMBERS:
            reader.length()
        elif code == _MODULE_FLOAT:
            reader.pass_over(4)
        elif code == _MODULE_DOUBLE:
            reader.pass_over(8)
        elif code == _MODULE_STRING:
            reader.skip_string()
        else:
            raise BadDumpError("the data of a module is damaged")


def _several(reader: Reader, *parts: Callable[[], object]) -> None:
    """Go on behind a number, and as many times all of `parts`."""
    for _ in range(reader.length()):
        for part in parts:
            part()


def _skip_double(reader: Reader) -> None:
    length = reader.byte()
    if length < _SPECIAL_DOUBLE:
        reader.pass_over(length)


def _skip_stream(reader: Reader, version: int) -> None:
    """Go on behind a stream (rdbSaveObject in rdb.c)."""
    _several(reader, reader.skip_string, reader.skip_string)  # ids and entries
    for _ in range(3 if version == 1 else 8):  # its length, last id and, later, more of both
        reader.length()
    for _ in range(reader.length()):  # groups of consumers
        reader.skip_string()
        for _ in range(2 if version == 1 else 3):
            reader.length()
        _several(reader, lambda: reader.pass_over(_ID + _TIME), reader.length)  # pending
        for _ in range(reader.length()):  # consumers
            reader.skip_string()
            reader.pass_over(_TIME if version < 3 else 2 * _TIME)  # noqa: PLR2004
            _several(reader, lambda: reader.pass_over(_ID))


def _skip_hash_with_times(reader: Reader) -> None:
    _several(reader, reader.length, reader.skip_string, reader.skip_string)


def _skip_timed_hash(reader: Reader) -> None:
    reader.pass_over(_TIME)
    _skip_hash_with_times(reader)


def _skip_timed_string(reader: Reader) -> None:
    reader.pass_over(_TIME)
    reader.skip_string()


_SKIPS: dict[int, Callable[[Reader], None]] = {
    **dict.fromkeys((1, 2, 14), lambda reader: _several(reader, reader.skip_string)),
    **dict.fromkeys((9, 10, 11, 12, 13, 16, 17, 20, 23), lambda reader: reader.skip_string()),
    3: lambda reader: _several(reader, reader.skip_string, lambda: _skip_double(reader)),
    4: lambda reader: _several(reader, reader.skip_string, reader.skip_string),
    5: lambda reader: _several(reader, reader.skip_string, lambda: reader.pass_over(8)),
    7: skip_module,
    15: lambda reader: _skip_stream(reader, 1),
    18: lambda reader: _several(reader, reader.length, reader.skip_string),
    19: lambda reader: _skip_stream(reader, 2),
    21: lambda reader: _skip_stream(reader, 3),
    22: _skip_hash_with_times,
    24: _skip_timed_hash,
    25: _skip_timed_string,
}
"""How to go on behind each type (the numbers are those of rdb.h)."""
