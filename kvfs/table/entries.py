"""The names of a directory that a checkpoint holds, and what changed since.

A directory that no checkpoint knows has a dict of its names. One that comes
from a checkpoint may have a million of them, which stay there: `Names` looks
like the dict and keeps in memory only what is new, has changed or is gone.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Base(Protocol):
    """What a table asks of the checkpoint that it stands on.

    All raise `CorruptionError` where its bytes do not verify.
    """

    limit: int
    """No node in it has this number or a higher one, but for the directories of long keys."""
    tracks: bool
    """Whether another one is to take its place: then all that goes is noted, since that one may have it."""

    def __len__(self) -> int:
        """Return how many nodes it has."""

    def row(self, ino: int) -> bytes | None:
        """Return the row of the node `ino`, if there is one."""

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of all its nodes, ascending."""

    def entry(self, directory: int, name: bytes) -> int | None:
        """Return the number of what `directory` has under `name`, if anything."""

    def entries(self, directory: int, start: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield the names of `directory`, sorted, from the position `start` on.

        With each its number, the type of that node (as `S_IFMT` gives it), and the
        position behind it, which stays what it is: a checkpoint never changes.
        """


class Nothing:
    """What a table stands on that stands on no checkpoint, but is to."""

    limit = 0
    tracks = True

    def __len__(self) -> int:
        """Return that there are no nodes."""
        return 0

    def row(self, _ino: int) -> None:
        """Return that there is no such node."""

    def numbers(self) -> Iterator[int]:
        """Yield nothing."""
        return iter(())

    def entry(self, _directory: int, _name: bytes) -> None:
        """Return that there is no such name."""

    def entries(self, _directory: int, _start: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield nothing."""
        return iter(())


class Names:
    """The names of one directory of a checkpoint, with their inode numbers."""

    __slots__ = ("_latest", "_length", "base", "changed", "gone", "ino")

    def __init__(self, base: Base, ino: int, length: int) -> None:
        """Start with the `length` names that directory `ino` has in `base`."""
        self.base = base
        self.ino = ino
        self.changed: dict[bytes, int] = {}
        """Names that are new, or name something else than before."""
        self.gone: set[bytes] = set()
        """Names that the checkpoint has, and the directory has not."""
        self._length = length
        self._latest: tuple[bytes, int | None] = (b"", None)
        """The name that was looked up last in the checkpoint, which never changes, and its number."""

    @classmethod
    def over(cls, base: Base, ino: int, entries: dict[bytes, int]) -> Names:
        """Return the names of a directory that `base` does not have, and `entries` are."""
        names = cls(base, ino, len(entries))
        names.changed = entries
        return names

    def stand_on(self, base: Base) -> None:
        """Let `base` take the place of the one before, which has tracked since it was made."""
        self.base = base
        self._latest = (b"", None)

    def surplus(self) -> Iterator[None]:
        """Forget what is in memory and as the checkpoint has it; yields after each that was looked at."""
        for name in list(self.changed):
            number = self.base.entry(self.ino, name)
            if number is not None and self.changed.get(name) == number:
                del self.changed[name]
            yield
        for name in list(self.gone):
            if self.base.entry(self.ino, name) is None:
                self.gone.discard(name)
            yield

    def get(self, name: bytes) -> int | None:
        """Return the number of what has `name`, or None."""
        found = self.changed.get(name)
        if found is not None or name in self.gone:
            return found
        return self._below(name)

    def _below(self, name: bytes) -> int | None:
        """Return the number of what has `name` in the checkpoint."""
        latest, number = self._latest
        if name != latest:
            number = self.base.entry(self.ino, name)
            self._latest = name, number
        return number

    def __contains__(self, name: bytes) -> bool:
        """Tell whether there is such a name."""
        return self.get(name) is not None

    def __setitem__(self, name: bytes, number: int) -> None:
        """Let `name`, which may be new, name `number`."""
        if self.get(name) is None:
            self._length += 1
        self.changed[name] = number
        self.gone.discard(name)

    def pop(self, name: bytes) -> int:
        """Take `name` away and return what it named. Raises `KeyError`."""
        found = self.changed.pop(name, None)
        below = None if name in self.gone else self._below(name)
        if below is not None or self.base.tracks:
            self.gone.add(name)
        found = below if found is None else found
        if found is None:
            raise KeyError(name)
        self._length -= 1
        return found

    def __len__(self) -> int:
        """Return how many names there are."""
        return self._length

    @property
    def has_changed_only(self) -> bool:
        """Whether none is as the checkpoint has it: then it need not be gone through."""
        return len(self.changed) == self._length

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield every name with its number."""
        yield from list(self.changed.items())
        for name, number, _ in self.unchanged():
            yield name, number

    def values(self) -> Iterator[int]:
        """Yield the number of every name."""
        return (number for _, number in self.items())

    def __iter__(self) -> Iterator[bytes]:
        """Yield every name."""
        return (name for name, _ in self.items())

    def below(self, start: int) -> Iterator[tuple[bytes, int, int | None, int]]:
        """Yield what the checkpoint has from the position `start` on and is still there.

        With the number that each name has now, the type of that node where it is
        the one of the checkpoint, and the position behind it.
        """
        for name, number, file_type, behind in self.base.entries(self.ino, start):
            if name in self.changed:
                yield name, self.changed[name], None, behind
            elif name not in self.gone:
                yield name, number, file_type, behind

    def unchanged(self) -> Iterator[tuple[bytes, int, bool]]:
        """Yield every name that is as the checkpoint has it, its number, and whether that is a file's."""
        if self.has_changed_only:
            return
        for name, number, file_type, _ in self.base.entries(self.ino):
            if name not in self.changed and name not in self.gone:
                yield name, number, stat.S_ISREG(file_type)
