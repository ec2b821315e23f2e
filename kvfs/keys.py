"""Keys and paths: one bijection, and the only place that knows it.

A key is any byte string of up to `MAX_KEY` bytes. A key that is a legal
relative path (`a`, `a/b`) is shown at that path. Every other key (empty,
`a//b`, `..`, a component over 255 bytes, one with a NUL, anything at or below
`.kvfs`) is shown percent-encoded below `.kvfs/keys/`, and so is a legal key
whose path is taken by a directory.

An encoded key that is longer than a file name may be is cut into pieces: all
but the last are directories whose names are exactly `MAX_NAME` bytes and end
in `+`, a byte that encoding leaves nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvfs.errors import KeyTooLongError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_KEY = 65_535
MAX_NAME = 255
CONTROL = b".kvfs"
KEYS = b"keys"

_COMPONENT = rb"(?!\.{1,2}(?:/|\Z))[^/\0]{1,255}"
_LEGAL = re.compile(rb"(?!\.kvfs(?:/|\Z))" + _COMPONENT + rb"(?:/" + _COMPONENT + rb")*")

_DOT = ord(".")
_PIECE = MAX_NAME - 1
_EMPTY = b"="
_ESCAPED = frozenset(b"/%=+\x7f") | frozenset(range(32))
_QUOTED = [b"%%%02X" % byte if byte in _ESCAPED else bytes((byte,)) for byte in range(256)]
_HEX = re.compile(rb"%([0-9A-F]{2})")


def check(key: bytes) -> bytes:
    """Return `key` if it is short enough to be one.

    Raises `KeyTooLongError`.
    """
    if len(key) > MAX_KEY:
        message = f"key of {len(key)} bytes is over the limit of {MAX_KEY} bytes"
        raise KeyTooLongError(message)
    return key


def split(key: bytes) -> list[bytes] | None:
    """Return the components of the path of `key`, or None if it is no legal path."""
    return key.split(b"/") if _LEGAL.fullmatch(key) else None


def is_plain(key: bytes) -> bool:
    """Tell, soon, whether `key` is a legal path of one component; of some that are it does not."""
    return b"/" not in key and 0 < len(key) <= MAX_NAME and key[0] != _DOT and b"\0" not in key


def encode(key: bytes) -> list[bytes]:
    """Return the names of `key` below `.kvfs/keys/`: directories, then the file."""
    if not key:
        return [_EMPTY]
    name = b"".join([_QUOTED[byte] for byte in key])
    if name in {b".", b".."} or len(name) > _PIECE:
        name = name.replace(b".", b"%2E")
    pieces = [name[start : start + _PIECE] for start in range(0, len(name), _PIECE)]
    return [piece + b"+" for piece in pieces[:-1]] + pieces[-1:]


def aside(key: bytes) -> list[bytes]:
    """Return the whole path of `key` below `.kvfs/keys/`, from the root of the mount."""
    return [CONTROL, KEYS, *encode(key)]


def decode(names: Sequence[bytes]) -> bytes | None:
    """Return the key whose `encode` is `names`, or None if there is none."""
    if list(names) == [_EMPTY]:
        return b""
    text = b"".join(name.removesuffix(b"+") for name in names)
    key = _HEX.sub(lambda match: bytes((int(match[1], 16),)), text)
    return key if len(key) <= MAX_KEY and encode(key) == list(names) else None


def is_piece(name: bytes) -> bool:
    """Tell whether `name` may be a directory below `.kvfs/keys/`."""
    return len(name) == MAX_NAME and name.endswith(b"+") and b"+" not in name[:-1]
