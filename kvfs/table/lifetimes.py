"""Lifetimes: an extended attribute that says when a file is to go.

To have one changes nothing by itself: who writes to the store deletes what has
expired, so that the table depends on no clock.
"""

from __future__ import annotations

import re
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EXPIRES = b"user.kvfs.expires"
"""The extended attribute; its value are seconds since 1970, such as `1795887697.5`."""
_VALUE = re.compile(rb"([0-9]{1,10})(?:\.([0-9]{1,9}))?")
_SECOND = 1_000_000_000
_DIGITS = 9
_SLACK = 64
_LAST = 2**63 - 1
"""Nanoseconds since 1970 in 2262, the last time that a checkpoint can hold."""


def parse_expiry(value: bytes) -> int | None:
    """Return the nanoseconds since 1970 that `value` says; None if it says none."""
    match = _VALUE.fullmatch(value)
    if match is None:
        return None
    time = int(match[1]) * _SECOND + int((match[2] or b"").ljust(_DIGITS, b"0"))
    return time if time <= _LAST else None


def dump_expiry(time: int) -> bytes:
    """Return the value that says `time`, in nanoseconds since 1970."""
    seconds, rest = divmod(time, _SECOND)
    return b"%d.%09d" % (seconds, rest) if rest else b"%d" % seconds


class Expiries:
    """When the files expire that do; times are in nanoseconds since 1970."""

    def __init__(self, expiries: Iterable[tuple[int, int]]) -> None:
        """Start with these, each the number of a file and a time."""
        self.times = dict(expiries)
        """By the number of the file; to be read only. Whether it is empty is asked at each `get`."""
        self._heap: list[tuple[int, int]] = []
        self._order()

    def __len__(self) -> int:
        """Return how many files expire."""
        return len(self.times)

    def all(self) -> tuple[tuple[int, int], ...]:
        """Return each number with its time, ascending."""
        return tuple(sorted(self.times.items()))

    def set(self, ino: int, time: int | None) -> None:
        """Let the file `ino` expire at `time`, or never."""
        if time is None:
            self.times.pop(ino, None)
            return
        self.times[ino] = time
        heappush(self._heap, (time, ino))
        if len(self._heap) > _SLACK + 2 * len(self.times):
            self._order()  # of what was prolonged there are old times, which may be far ahead

    def _order(self) -> None:
        self._heap = [(time, ino) for ino, time in self.times.items()]
        heapify(self._heap)

    def has_expired(self, ino: int, now: int) -> bool:
        """Tell whether the file `ino` has expired at the time `now`."""
        return self.times.get(ino, now + 1) <= now

    def expired(self, now: int) -> int:
        """Return how many files have expired at the time `now`."""
        return sum(time <= now for time in self.times.values())

    def first_expired(self, now: int) -> int | None:
        """Return the number of the file that expired first, if any has at the time `now`."""
        time = self.first()
        return None if time is None or time > now else self._heap[0][1]

    def first(self) -> int | None:
        """Return when the next file expires, or has expired; None if none ever does."""
        while self._heap:
            time, ino = self._heap[0]
            if self.times.get(ino) == time:
                return time
            heappop(self._heap)
        return None
