"""The bytes of an RDB file: lengths, strings, LZF, and the checksum."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

_ENCODED = 3  # the two high bits of a length that is the kind of a string
_LENGTH_32, _LENGTH_64 = 0x80, 0x81
_INTEGERS = {0: "<b", 1: "<h", 2: "<i"}
_LZF = 3
_SHORT = 32  # a control byte of LZF below this is the number of literals, less one
_FAR = 7  # as many bytes, or more, have another byte for their number
_POLYNOMIAL = 0x95AC9329AC4BC9B5  # 0xAD93D23594C935A9 with its bits reversed


class BadDumpError(Exception):
    """The file is no whole RDB file, or has what cannot be imported."""


class Reader:
    """Reads what an RDB file is made of, from `position` on.

    All raise `BadDumpError` where the file ends before.
    """

    def __init__(self, data: mmap.mmap, position: int) -> None:
        """Read `data`."""
        self._data = data
        self.position = position

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        end = self.position + size
        if end > len(self._data):
            raise BadDumpError("the file is cut short")
        found = self._data[self.position : end]
        self.position = end
        return found

    def pass_over(self, size: int) -> None:
        """Go on behind the next `size` bytes."""
        if self.position + size > len(self._data):
            raise BadDumpError("the file is cut short")
        self.position += size

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def length(self) -> int:
        """Return a length."""
        length, encoded = self._length()
        if encoded:
            raise BadDumpError("this is no length")
        return length

    def string(self) -> bytes:
        """Return a string, whatever it is encoded as."""
        length, encoded = self._length()
        if not encoded:
            return self.take(length)
        if length == _LZF:
            packed, size = self.length(), self.length()
            return unpack(self.take(packed), size)
        form = _INTEGERS.get(length)
        if form is None:
            raise BadDumpError(f"a string cannot be encoded as {length}")
        (number,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return b"%d" % number

    def skip_string(self) -> None:
        """Go on behind a string."""
        length, encoded = self._length()
        if not encoded:
            self.pass_over(length)
        elif length == _LZF:
            packed, _ = self.length(), self.length()
            self.pass_over(packed)
        elif length in _INTEGERS:
            self.pass_over(struct.calcsize(_INTEGERS[length]))
        else:
            raise BadDumpError(f"a string cannot be encoded as {length}")

    def number(self, form: str) -> int:
        """Return a number of the fixed `form`, as `struct` names it."""
        number: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def _length(self) -> tuple[int, bool]:
        """Return a length, or with True the way in which a string is encoded."""
        first = self.byte()
        kind, low = first >> 6, first & 0x3F
        if kind == _ENCODED:
            return low, True
        if kind == 0:
            return low, False
        if kind == 1:
            return low << 8 | self.byte(), False
        if first == _LENGTH_32:
            return self.number(">I"), False
        if first == _LENGTH_64:
            return self.number(">Q"), False
        raise BadDumpError("this is no length")


def unpack(packed: bytes, size: int) -> bytes:
    """Return the `size` bytes that LZF made `packed` of (lzf_d.c of liblzf).

    Raises `BadDumpError`.
    """
    out, position = bytearray(), 0
    try:
        while position < len(packed) and len(out) <= size:
            control = packed[position]
            position += 1
            if control < _SHORT:
                out += packed[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == _FAR:
                length += packed[position]
                position += 1
            start = len(out) - ((control & 0x1F) << 8 | packed[position]) - 1
            position += 1
            if start < 0:
                raise BadDumpError("a packed string is damaged")
            for index in range(start, start + length + 2):  # which may overlap its own end
                out.append(out[index])
    except IndexError:
        raise BadDumpError("a packed string is damaged") from None
    if len(out) != size or position != len(packed):
        raise BadDumpError("a packed string is damaged")
    return bytes(out)


def _table() -> list[int]:
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc64(data: bytes, crc: int = 0) -> int:
    """Return the CRC-64 of Redis (crc64.c: Jones' polynomial, reflected) of `data`, going on from `crc`."""
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc
