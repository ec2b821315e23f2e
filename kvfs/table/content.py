"""Where the bytes of a file lie: extents, sorted by offset, with holes between.

An extent never holds data, only the location of the record that does.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.records import Location


class Extent(NamedTuple):
    """`length` bytes of the file from `start`, found `skip` bytes into a record's data."""

    start: int
    length: int
    location: Location
    skip: int

    @property
    def end(self) -> int:
        """The offset behind the extent."""
        return self.start + self.length

    def part(self, start: int, end: int) -> Extent:
        """Return what of the extent lies within `start` and `end`."""
        low, high = max(start, self.start), min(end, self.end)
        return Extent(low, high - low, self.location, self.skip + low - self.start)


def overlay(extents: list[Extent], new: Extent) -> None:
    """Put `new` over what `extents` has at its place."""
    if not extents or extents[-1].end <= new.start:
        extents.append(new)
        return
    low, high = _touched(extents, new.start, new.end)
    pieces = [new]
    if low < high:
        first, last = extents[low], extents[high - 1]
        if first.start < new.start:
            pieces.insert(0, first.part(first.start, new.start))
        if last.end > new.end:
            pieces.append(last.part(new.end, last.end))
    extents[low:high] = pieces


def cut(extents: list[Extent], size: int) -> None:
    """Drop what `extents` has from `size` on."""
    while extents and extents[-1].end > size:
        last = extents.pop()
        if last.start < size:
            extents.append(last.part(last.start, size))


def within(extents: list[Extent], start: int, end: int) -> Iterator[Extent]:
    """Yield the parts of `extents` between `start` and `end`, in order."""
    low, high = _touched(extents, start, end)
    for index in range(low, high):
        yield extents[index].part(start, end)


def _touched(extents: list[Extent], start: int, end: int) -> tuple[int, int]:
    """Return the index range of the extents that overlap `start` to `end`."""
    low = bisect_right(extents, start, key=lambda extent: extent.end)
    high = low
    while high < len(extents) and extents[high].start < end:
        high += 1
    return low, high
