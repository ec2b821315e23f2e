"""What the log asks of a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.records import Record

CHUNK = 128 * 1024
"""The most data, in bytes, that one record of a cut value holds."""


Data = bytes | bytearray | memoryview
"""Bytes that are only looked at."""


class BadRecordError(Exception):
    """The bytes at `offset` are no whole, valid record."""

    def __init__(
        self, offset: int, reason: str, *, foreign: bool = False, newer: bool = False
    ) -> None:
        """Remember where and why.

        `foreign` bytes are whole, but not of this place; `newer` ones are of
        another version of the format.
        """
        super().__init__(reason)
        self.offset = offset
        self.reason = reason
        self.foreign = foreign
        self.newer = newer


class SegmentHeader(NamedTuple):
    """The identity of a segment: store id, its number, its first sequence number."""

    store_id: bytes
    number: int
    first: int


class Place(NamedTuple):
    """Where a record is written: segment number and offset.

    `synced` is the offset in the segment up to which everything was on stable
    storage at that time.
    """

    number: int
    offset: int
    synced: int = 0


class Scanned(NamedTuple):
    """One record of a segment, where it lies, and whether its batch goes on.

    `synced` is that of its `Place`.
    """

    record: Record
    offset: int
    length: int
    more: bool
    synced: int = 0


class Seeming(NamedTuple):
    """What bytes that do not verify seem to have been.

    The length, type and key of a record, the other key of a rename or a link,
    and whether these name directories.
    """

    length: int
    record: str
    key: bytes
    new: bytes | None
    directory: bool


class Codec(Protocol):
    """Encodes and decodes the records of one store."""

    name: ClassVar[str]
    header_size: ClassVar[int]
    """Bytes at the head of each segment before its first record."""
    min_segment_size: ClassVar[int]
    atomic: ClassVar[bool]
    """Whether several records can form a batch that replays whole or not at all."""
    keeps_time: ClassVar[bool]
    """Whether a record carries its time."""

    def header(self, header: SegmentHeader) -> bytes:
        """Return the head of a segment, `header_size` bytes."""

    def parse_header(self, data: bytes) -> SegmentHeader | None:
        """Return the identity at the head of `data`; None where there is no header.

        Raises `BadRecordError` if the head is damaged.
        """

    def parts(self, record: Record, *, more: bool = False) -> tuple[bytes, Data]:
        """Return what `encode` does in two parts: the second is data of `record`, not copied."""

    def encode(self, record: Record, *, more: bool = False) -> bytes:
        """Return the bytes of `record` but for its place; `more` ties it to the next one."""

    def seal(self, raw: bytes, place: Place, data: Data = b"") -> bytes | bytearray:
        """Return `raw`, made to verify at `place` and nowhere else, together with `data` behind it.

        The two are what `parts` gave; or `raw` is what `encode` gave.
        """

    def encode_at(self, record: Record, number: int, offset: int, synced: int) -> bytes | bytearray:
        """Return `record` encoded and sealed for the place that the three others are."""

    def decode(self, raw: bytes, number: int, offset: int) -> Record:
        """Return the one record that `raw` is, verified for its place.

        Raises `BadRecordError`.
        """

    def scan(self, data: bytes, number: int, offset: int, base: int = 0) -> Iterator[Scanned]:
        """Yield the records of segment `number` from `offset` to the end of `data`.

        `data` is what the segment has from `base` on; offsets are those in `data`.
        Raises `BadRecordError` at the first that is not whole and valid.
        """

    def resync(self, data: bytes, number: int, offset: int) -> Iterator[Scanned]:
        """Yield valid records behind a bad one at `offset`, wherever they start."""

    def seeming(self, data: bytes, offset: int) -> Seeming | None:
        """Return what the bad record at `offset` seems to have been, or None if nothing tells.

        For people, and to know what to distrust; never to be taken for a record.
        """

    def chunk(self, record: Record, room: int) -> int:
        """Return how much data a record like `record` may hold in `room` bytes.

        `record` has no data; the answer may be zero or less.
        """
