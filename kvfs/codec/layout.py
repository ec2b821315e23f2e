"""The fields of the record types, in the order both codecs store them.

A field is BYTES (a key or a name), NUMBER (unsigned, below 2**64) or DATA
(bytes of any length, at most one to a record). After the fields come the
flags that are set, then the attributes that are given.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import records

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(Enum):
    """How a field is stored."""

    BYTES = 1
    NUMBER = 2
    DATA = 3


class Layout(NamedTuple):
    """One record type: its code (binary), its letter (text) and its fields."""

    type: Callable[..., Any]
    code: int
    letter: bytes
    fields: tuple[tuple[str, Kind], ...]
    flags: tuple[str, ...]
    attrs: bool


_B, _N, _D = Kind.BYTES, Kind.NUMBER, Kind.DATA
_KEY, _NEW, _NAME = ("key", _B), ("new", _B), ("name", _B)

LAYOUTS = (
    Layout(records.Put, 1, b"P", (_KEY, ("data", _D)), (), attrs=True),
    Layout(records.Delete, 2, b"D", (_KEY,), ("directory",), attrs=False),
    Layout(records.Write, 3, b"W", (_KEY, ("offset", _N), ("data", _D)), (), attrs=False),
    Layout(records.Truncate, 4, b"T", (_KEY, ("size", _N)), (), attrs=False),
    Layout(records.Mkdir, 5, b"M", (_KEY,), (), attrs=True),
    Layout(records.Symlink, 6, b"S", (_KEY, ("target", _D)), (), attrs=True),
    Layout(records.Mknod, 7, b"N", (_KEY, ("mode", _N), ("rdev", _N)), (), attrs=True),
    Layout(records.Link, 8, b"L", (_KEY, _NEW), (), attrs=False),
    Layout(
        records.Rename,
        9,
        b"R",
        (_KEY, _NEW),
        ("directory", "new_directory", "exchange"),
        attrs=False,
    ),
    Layout(records.Setattr, 10, b"A", (_KEY,), ("directory",), attrs=True),
    Layout(records.Setxattr, 11, b"X", (_KEY, _NAME, ("value", _D)), ("directory",), attrs=False),
    Layout(records.Removexattr, 12, b"U", (_KEY, _NAME), ("directory",), attrs=False),
    Layout(records.Relocate, 13, b"V", (_KEY, ("offset", _N), ("data", _D)), (), attrs=False),
)

BY_TYPE = {layout.type: layout for layout in LAYOUTS}
BY_CODE = {layout.code: layout for layout in LAYOUTS}
BY_LETTER = {layout.letter: layout for layout in LAYOUTS}
