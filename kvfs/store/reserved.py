"""The extended attributes `user.kvfs.*`, by which programs say more than files can.

`version` names the state of a file; with `if-version` on a file, it takes the
place of another one only if that has this version still; `ttl` sets when a file
expires, which is kept as `expires`. Only the last is kept in the log; none but
that is listed, so that who copies all attributes does not copy what is no copy.
"""

from __future__ import annotations

import errno
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from kvfs.errors import ConfigError, ConflictError, PosixError
from kvfs.table import File
from kvfs.table.lifetimes import EXPIRES, dump_expiry, parse_expiry
from kvfs.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.store.content import Content
    from kvfs.table import Node

PREFIX = b"user.kvfs."
VERSION = PREFIX + b"version"
IF_VERSION = PREFIX + b"if-version"
TTL = PREFIX + b"ttl"
_SECOND = 1_000_000_000
_LONGEST = 100 * 365 * 86_400 * _SECOND
_DIGEST = 16


class Reserved:
    """What those attributes of the nodes of one store mean; `keeps_time` is of its format."""

    def __init__(self, content: Content, *, keeps_time: bool) -> None:
        """Serve files with this `content`."""
        self._content = content
        self._keeps_time = keeps_time
        self._conditions: dict[int, bytes] = {}

    def version(self, node: File) -> str:
        """Return what names the state of `node`: another one after each change of it.

        A text log keeps no times, so there it is a digest of the value.
        """
        if self._keeps_time:
            return f"{node.ino}.{self._content.changed(node)}"
        return blake2b(self._content.value(node), digest_size=_DIGEST).hexdigest()

    def get(self, node: Node, name: bytes) -> bytes:
        """Return the value of the attribute `name`. Raises `PosixError` ENODATA."""
        value: bytes | None = None
        if isinstance(node, File):
            if name == VERSION:
                value = self.version(node).encode()
            elif name == IF_VERSION:
                value = self._conditions.get(node.ino)
            elif name == EXPIRES:
                value = (node.xattrs or {}).get(EXPIRES)
            elif name == TTL:
                value = _left(node)
        if value is None:
            raise PosixError(errno.ENODATA)
        return value

    def set(self, node: Node, name: bytes, value: bytes, keep: Callable[[bytes], object]) -> None:
        """Do what setting the attribute `name` means; `keep` is to log a new value of `expires`.

        Raises `PosixError` EPERM for what cannot be set, EINVAL for a value that is none.
        """
        if not isinstance(node, File) or name not in (IF_VERSION, TTL, EXPIRES):
            raise PosixError(errno.EPERM if name == VERSION else errno.EOPNOTSUPP)
        if name == IF_VERSION:
            self._conditions[node.ino] = value
        elif name == TTL:
            keep(dump_expiry(expiry_after(value.decode(errors="replace"))))
        elif parse_expiry(value) is None:
            raise PosixError(errno.EINVAL)
        else:
            keep(value)

    def conditions(self) -> list[tuple[int, str | None]]:
        """Return the files that have a condition, each with the version of what it may replace."""
        return [(ino, _wanted(value)) for ino, value in self._conditions.items()]

    def disarm(self, ino: int) -> bool:
        """Forget the condition that the file `ino` has; tell whether there was one."""
        return self._conditions.pop(ino, None) is not None

    def check(self, node: Node, target: Node | None) -> None:
        """Raise `ConflictError` if `node` may not take the place of `target`, which it says the version of.

        An empty version stands for no file at all.
        """
        if node.ino in self._conditions:
            self.expect(target, _wanted(self._conditions[node.ino]))

    def expect(self, target: Node | None, version: str | None) -> None:
        """Raise `ConflictError` if `target` does not have `version`; None is no file."""
        found = self.version(target) if isinstance(target, File) else None
        if found != version or (target is not None and found is None):
            raise other_version(found, version)


def other_version(found: str | None, wanted: str | None) -> ConflictError:
    """Return the error where something has the version `found` and not the one that is `wanted`."""
    message = f"its version is {found or 'none: it is not there'}, not {wanted or 'none'}"
    return ConflictError(message)


def expiry_after(lifetime: float | str) -> int:
    """Return when something expires that lives for `lifetime`, in ns since 1970.

    That is a number of seconds, or such as `90s`, `5m`, `2h`, `1d`. Raises `ConfigError`.
    """
    length = parse_duration(f"{lifetime}s") or parse_duration(str(lifetime))
    if length is None or not 0 < length <= _LONGEST:
        message = f"{str(lifetime)!r} is no lifetime; write seconds, or for example 90s, 5m, 2h, 1d"
        raise ConfigError(message)
    return time.time_ns() + length


def _wanted(value: bytes) -> str | None:
    """Return the version that the value of `if-version` asks for; an empty one stands for no file."""
    return value.decode(errors="replace") or None


def _left(node: File) -> bytes | None:
    """Return how many seconds `node` has left, rounded up, if it expires."""
    expiry = parse_expiry((node.xattrs or {}).get(EXPIRES, b""))
    if expiry is None:
        return None
    return b"%d" % max(-((time.time_ns() - expiry) // _SECOND), 0)
