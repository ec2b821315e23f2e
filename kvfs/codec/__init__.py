"""Records to bytes and back: pure functions, no I/O.

`docs/format.md` is normative; this package follows it. A codec is one of
`binary` (the default: compact, checksummed, atomic batches) and `text` (lines
that `cat` and `grep` read). Both are driven by the same table of the record
types, in `layout`.
"""

from kvfs.codec.base import BadRecordError, Codec, Place, Seeming, SegmentHeader
from kvfs.codec.binary import BinaryCodec
from kvfs.codec.text import TextCodec

__all__ = [
    "BadRecordError",
    "BinaryCodec",
    "Codec",
    "Place",
    "Seeming",
    "SegmentHeader",
    "TextCodec",
]
