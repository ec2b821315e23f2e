"""What the log asks of a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.records import Record

CHUNK = 128 * 1024
"""The most data, in bytes, that one record of a cut value holds."""


class BadRecordError(Exception):
    """The bytes at `offset` are no whole, valid record."""

    def __init__(self, offset: int, reason: str) -> None:
        """Remember where and why."""
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class SegmentHeader(NamedTuple):
    """The identity of a segment: store id, its number, its first sequence number."""

    store_id: bytes
    number: int
    first: int


class Scanned(NamedTuple):
    """One record of a segment, where it lies, and whether its batch goes on."""

    record: Record
    offset: int
    length: int
    more: bool


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

    def encode(self, record: Record, *, more: bool = False) -> bytes:
        """Return the bytes of `record`; `more` ties it to the next one."""

    def decode(self, raw: bytes) -> Record:
        """Return the one record that `raw` is, verified.

        Raises `BadRecordError`.
        """

    def scan(self, data: bytes, offset: int) -> Iterator[Scanned]:
        """Yield the records of a segment from `offset` to the end of `data`.

        Raises `BadRecordError` at the first that is not whole and valid.
        """

    def resync(self, data: bytes, offset: int) -> int | None:
        """Return where the next valid record after a bad one at `offset` starts.

        None means that nothing valid follows: the tail is torn, not damaged.
        """

    def chunk(self, record: Record, room: int) -> int:
        """Return how much data a record like `record` may hold in `room` bytes.

        `record` has no data; the answer may be zero or less.
        """
