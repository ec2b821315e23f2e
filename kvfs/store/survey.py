"""A log from end to end, damaged or not: what of it verifies, and what is missing.

A damaged place can hide more than its own bytes. Where the sequence numbers in
the heads of the segments do not add up to the records that there are, or no
head tells, records may be missing at the border of two segments: that is a
loss too, without bytes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.errors import KvfsError
from kvfs.recovery import read_clean
from kvfs.segment import name_of, numbers_of
from kvfs.store.pieces import HEADER, Lost, Piece, SegmentReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.recovery import LogEnd


class SegmentSurvey(NamedTuple):
    """What a segment holds.

    `size` is in bytes, `first` the sequence number of its first record, if its
    head tells. `records` verify; between them are so many `regions` of bytes
    that do not, each of one record at least.
    """

    size: int
    first: int | None
    records: int
    regions: int
    lost: list[Lost]


class Survey:
    """A reading of the whole log of the store at `path`."""

    def __init__(self, disk: Disk, path: str, config: Config, begin: LogEnd | None = None) -> None:
        """Read every segment; the log begins at `begin`, before which some may have been removed.

        Raises `NewerFormatError` if a later version of kvfs wrote one, or what
        the disk says.
        """
        self._reader = SegmentReader(disk, path, config)
        self._begin, self._offset = begin[:2] if begin else (1, 0)
        self._has_headers = config.codec().header_size > 0
        clean = None
        with suppress(KvfsError):  # which check tells of, and a repair removes
            clean = read_clean(disk, os.path.join(path, "clean"))
        numbers = numbers_of(disk.list(os.path.join(path, "segments")))
        self.segments = {number: self._survey(number) for number in numbers}
        self.missing: dict[int, list[Lost]] = {}
        """What is missing, by the segment that it should stand before."""
        self._find_missing(clean or (0, 0))

    def pieces(self) -> Iterator[Piece]:
        """Yield the log from where it begins on, read once more, in pieces."""
        for number in sorted({*self.segments, *self.missing}):
            for lost in self.missing.get(number, ()):
                yield Piece(None, more=False, lost=lost)
            if number not in self.segments or number < self._begin:
                continue
            for piece in self._reader.pieces(self._reader.load(number)):
                if number > self._begin or piece.lost.offset >= self._offset:
                    yield piece

    def _survey(self, number: int) -> SegmentSurvey:
        records = regions = 0
        lost: list[Lost] = []
        loaded = self._reader.load(number)
        sound = True
        for piece in self._reader.pieces(loaded):
            if piece.record is not None:
                records += 1
                sound = True
                continue
            lost.append(piece.lost)
            if piece.lost.record != HEADER:
                regions += sound
                sound = False
        size = len(loaded.data or b"")
        return SegmentSurvey(size, self._reader.first(loaded), records, regions, lost)

    def _find_missing(self, clean: tuple[int, int]) -> None:
        expected: int | None = 0  # the sequence number of the next record, where that is known
        doubtful: list[int] = []  # segments whose head does not tell what went before
        number, last = 1, max(clean[0], *self.segments, 0)
        while number <= last:
            found = self.segments.get(number)
            if found is None:
                number = self._note_gap(max(number, self._begin), last)
                expected = None
                continue
            if found.first is None:
                if self._has_headers and number > 1:
                    doubtful.append(number)
            else:
                if expected is not None and found.first != expected:
                    self._note_border(number, found.first - expected)
                elif expected is not None:
                    doubtful.clear()
                self._note_doubts(doubtful)
                expected = found.first
            if expected is not None:
                expected += found.records + found.regions
            number += 1
        self._note_doubts(doubtful)
        self._note_cut(*clean)

    def _note_gap(self, number: int, last: int) -> int:
        """Note the run of missing segments from `number` on; return the one behind it."""
        if number in self.segments:
            return number
        behind = min((n for n in self.segments if n > number), default=last + 1)
        reason = "the segment is missing"
        if behind - number > 1:
            reason = f"{behind - number} segments are missing, up to {name_of(behind - 1)}"
        self._note(number, Lost(name_of(number), 0, 0, reason))
        return behind

    def _note_border(self, number: int, missing: int) -> None:
        reason = f"{missing} records are missing there or before"
        if missing < 0:
            reason = f"the next segment counts {-missing} records less before it than there are"
        self._note_end(number, reason)

    def _note_doubts(self, doubtful: list[int]) -> None:
        for number in doubtful:
            self._note_end(number, "nothing tells whether records are missing at its end")
        doubtful.clear()

    def _note_end(self, number: int, reason: str) -> None:
        """Note a loss at the end of the segment before `number`."""
        before = self.segments.get(number - 1)
        size = before.size if before else 0
        self._note(number, Lost(name_of(max(number - 1, 1)), size, 0, reason))

    def _note_cut(self, number: int, size: int) -> None:
        found = self.segments.get(number)
        if found and found.size < size:
            reason = f"{size - found.size} bytes are missing that were there at the last close"
            self._note(number + 1, Lost(name_of(number), found.size, 0, reason))

    def _note(self, number: int, lost: Lost) -> None:
        self.missing.setdefault(number, []).append(lost)
