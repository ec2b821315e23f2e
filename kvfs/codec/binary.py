"""The binary codec: a checksummed header per segment and per record.

All numbers are little-endian. The checksum is CRC-32C (Castagnoli, RFC 3720)
over everything behind itself in the header and the body. A length is believed
only within `MAX_BODY`, and only once the checksum has confirmed it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, ClassVar

from kvfs.checksum import crc32c
from kvfs.codec.base import CHUNK, BadRecordError, Data, Place, Scanned, Seeming, SegmentHeader
from kvfs.codec.layout import BY_CODE, BY_TYPE, Kind, Layout
from kvfs.keys import MAX_KEY
from kvfs.records import NO_ATTRS, Attrs, Put, new_tuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.records import Record

MAGIC = b"kvfs seg"
VERSION = 1
MARK = 0xB5
"""The byte that every record header holds, to find records behind damage."""
MAX_BODY = CHUNK + 2 * MAX_KEY + 256

_SEGMENT = struct.Struct("<8sI16sQQ16xI")  # magic, version, store id, number, first, CRC
_RECORD = struct.Struct("<IIIBBHq")  # CRC, synced, body length, mark, type, flags, time
_KEYED = struct.Struct("<IIIBBHqH")  # the same, and the length of the key, which begins each body
_COPIED = 4096  # bytes that are copied sooner than a view of them is made
_SUMMED = 4  # the CRC covers a record from here on
_MARK_AT = 12
_SPREAD = 0x9E3779B1  # 2**32 divided by the golden ratio, as in Fibonacci hashing
_MASK = 0xFFFFFFFF
_PLAIN = struct.Struct("<IIBBHqH")  # the same, behind the CRC
_PLACE = struct.Struct("<II")
_CRC = struct.Struct("<I")
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")
assert (_SEGMENT.size, _RECORD.size) == (64, 24)

_MAX_MODE = 0o7777
_MAX_INO = 2**63 - 1
_MORE = 0x01
_ATTRS = 0x02
_FLAG_BITS = {"directory": 0x04, "new_directory": 0x08, "exchange": 0x10}
_ATTR_FORMS = [struct.Struct(form) for form in ("<I", "<I", "<I", "<q", "<q", "<q", "<q", "<Q")]
_PUT_CODE = BY_TYPE[Put].code
_BYTES, _NUMBER = Kind.BYTES, Kind.NUMBER


def _plan(layout: Layout) -> tuple[int, list[Kind], list[tuple[int, int]], int]:
    names: tuple[str, ...] = layout.type._fields  # type: ignore[attr-defined]
    flags = [(names.index(name), _FLAG_BITS[name]) for name in layout.flags]
    kinds = [kind for _, kind in layout.fields]
    return layout.code, kinds, flags, names.index("attrs") if layout.attrs else 0


_PLANS = {layout.type: _plan(layout) for layout in BY_CODE.values()}
"""Of each type of record its code, the kinds of its fields, where which flags are, and where the
attributes are, if it has any."""
_known = {
    layout.code: _MORE
    | (_ATTRS if layout.attrs else 0)
    | sum(_FLAG_BITS[name] for name in layout.flags)
    for layout in BY_CODE.values()
}


class BinaryCodec:
    """Records as checksummed bytes, tied into atomic batches."""

    name: ClassVar[str] = "binary"
    header_size: ClassVar[int] = _SEGMENT.size
    min_segment_size: ClassVar[int] = 512
    atomic: ClassVar[bool] = True
    keeps_time: ClassVar[bool] = True

    def __init__(self, store_id: bytes = b"") -> None:
        """Make the codec of the store `store_id`, whose records verify in no other."""
        self._seed = crc32c(store_id)

    def header(self, header: SegmentHeader) -> bytes:
        """Return the 64 bytes at the head of a segment."""
        raw = _SEGMENT.pack(MAGIC, VERSION, header.store_id, header.number, header.first, 0)
        return raw[:-4] + struct.pack("<I", crc32c(raw[:-4]))

    def parse_header(self, data: bytes) -> SegmentHeader | None:
        """Return the identity of the segment whose first bytes `data` are."""
        if len(data) < _SEGMENT.size:
            raise BadRecordError(0, "the segment header is cut short")
        magic, version, store_id, number, first, crc = _SEGMENT.unpack_from(data)
        if magic != MAGIC or crc != crc32c(data[: _SEGMENT.size - 4]):
            raise BadRecordError(0, "the segment header is damaged")
        if version != VERSION:
            reason = f"the segment has format version {version}, not {VERSION}"
            raise BadRecordError(0, reason, foreign=True, newer=True)
        return SegmentHeader(store_id, number, first)

    def parts(self, record: Record, *, more: bool = False) -> tuple[bytes, Data]:
        """Return the header of `record` with its fields, and its data, which ends it."""
        values: Any = record  # a tuple: the fields, then flags and attributes, then the time
        code, kinds, flag_bits, at = _PLANS[type(record)]
        flags = _MORE if more else 0
        fields: list[bytes] = []
        data: Data = b""
        for kind, value in zip(kinds, values, strict=False):
            if kind is _BYTES:
                fields.append(_U16.pack(len(value)))
                fields.append(value)
            elif kind is _NUMBER:
                fields.append(_U64.pack(value))
            else:
                data = value
        for index, bit in flag_bits:
            if values[index]:
                flags |= bit
        if at and values[at] != NO_ATTRS:
            flags |= _ATTRS
            fields.append(_pack_attrs(values[at]))
        body = b"".join(fields)
        length = len(body) + len(data)
        return _RECORD.pack(0, 0, length, MARK, code, flags, values[-1]) + body, data

    def encode(self, record: Record, *, more: bool = False) -> bytes:
        """Return header and body of `record`."""
        return b"".join(self.parts(record, more=more))

    def seal(self, raw: bytes, place: Place, data: Data = b"") -> bytearray:
        """Set what the place decides: the synced offset, and the checksum masked with the place."""
        number, offset, synced = place
        sealed = bytearray(raw)
        _PLACE.pack_into(sealed, 0, 0, synced)
        crc = crc32c(memoryview(sealed)[_SUMMED:])
        if data:
            crc = crc32c(data, crc)
        _CRC.pack_into(sealed, 0, crc ^ self._mask(number, offset))
        return sealed

    def encode_at(self, record: Record, number: int, offset: int, synced: int) -> bytes | bytearray:
        """Return `record` encoded and sealed; a plain put in one go."""
        if type(record) is not Put or record.attrs is not NO_ATTRS:
            return self.seal(self.encode(record), Place(number, offset, synced))
        key, data, _, time = record
        size = len(key)
        rest = _PLAIN.pack(synced, 2 + size + len(data), MARK, _PUT_CODE, 0, time, size)
        crc = crc32c(data, crc32c(key, crc32c(rest))) ^ self._mask(number, offset)
        return b"".join((_CRC.pack(crc), rest, key, data))

    def decode(self, raw: bytes, number: int, offset: int) -> Record:
        """Return the record that `raw` is, and nothing but it."""
        record, _, length, _, _ = self._record_at(raw, 0, self._mask(number, offset))
        if length != len(raw):
            raise BadRecordError(0, "the record has another length")
        return record

    def scan(self, data: bytes, number: int, offset: int, base: int = 0) -> Iterator[Scanned]:
        """Yield the records from `offset` on."""
        end = len(data)
        record_at, mask = self._record_at, self._mask(number, base)
        while offset < end:
            scanned = record_at(data, offset, (mask + offset * _SPREAD) & _MASK)
            yield scanned
            offset += scanned[2]

    def resync(self, data: bytes, number: int, offset: int) -> Iterator[Scanned]:
        """Try every place that holds the mark where a record header has it."""
        start = offset + 1
        while (found := data.find(MARK, start + _MARK_AT)) >= 0:
            start = found - _MARK_AT
            try:
                scanned = self._record_at(data, start, self._mask(number, start))
            except BadRecordError:
                start += 1
            else:
                yield scanned
                start += scanned.length

    def seeming(self, data: bytes, offset: int) -> Seeming | None:
        """Return what header and key say, if they can be those of a record."""
        body = offset + _RECORD.size
        if body + _U16.size > len(data):
            return None
        _, _, length, byte, code, flags, _ = _RECORD.unpack_from(data, offset)
        (size,) = _U16.unpack_from(data, body)
        start = body + _U16.size
        if byte != MARK or code not in _known or length > MAX_BODY or flags & ~_known[code]:
            return None
        if size + _U16.size > length or start + size > len(data):
            return None
        layout, behind = BY_CODE[code], start + size
        new = None
        if ("new", Kind.BYTES) in layout.fields and behind + _U16.size <= len(data):
            (size,) = _U16.unpack_from(data, behind)
            new = data[behind + _U16.size : behind + _U16.size + size]
        key, directory = data[start:behind], flags & _FLAG_BITS["directory"] != 0
        return Seeming(_RECORD.size + length, layout.type.__name__, key, new, directory)

    def chunk(self, record: Record, room: int) -> int:
        """Return the room that header and fields leave."""
        return min(CHUNK, room - len(self.encode(record)))

    def _mask(self, number: int, offset: int) -> int:
        """Return what the checksum of a record at this place is masked with.

        A whole record in the wrong place, such as one within a value or of
        another segment, does not verify then.
        """
        return (self._seed + (number << 16 ^ number) + offset * _SPREAD) & _MASK

    def _record_at(self, data: bytes, offset: int, mask: int) -> Scanned:
        body = offset + _RECORD.size
        if body + _U16.size > len(data):
            raise BadRecordError(offset, "the record header is cut short")
        crc, synced, length, byte, code, flags, time, size = _KEYED.unpack_from(data, offset)
        if byte != MARK or code not in _known or length > MAX_BODY or flags & ~_known[code]:
            raise BadRecordError(offset, "this is no record header")
        end = body + length
        if end > len(data):
            raise BadRecordError(offset, "the record is cut short")
        summed = data if length < _COPIED else memoryview(data)
        if crc32c(summed[offset + _SUMMED : end]) ^ mask != crc:
            raise BadRecordError(offset, "the checksum does not match")
        start = body + _U16.size + size
        if start > end:
            raise BadRecordError(offset, "a field is cut short")
        if code == _PUT_CODE and not flags & _ATTRS:
            key = data[body + _U16.size : start]
            record: Record = new_tuple(Put, (key, data[start:end], NO_ATTRS, time))
        else:
            try:
                record = _unpack(BY_CODE[code], data[body:end], flags, time)
            except (struct.error, BadRecordError):
                raise BadRecordError(offset, "the fields do not fill the record") from None
        scanned: Scanned = new_tuple(
            Scanned, (record, offset, end - offset, flags & _MORE != 0, synced)
        )
        return scanned


def _unpack(layout: Layout, body: bytes, flags: int, time: int) -> Record:
    """Return the record of type `layout` whose fields `body` holds."""
    values: dict[str, Any] = {name: bool(flags & _FLAG_BITS[name]) for name in layout.flags}
    position = 0
    rest = None
    for name, kind in layout.fields:
        if kind is Kind.BYTES:
            (size,) = _U16.unpack_from(body, position)
            position += 2 + size
            values[name] = body[position - size : position]
            if position > len(body):
                raise BadRecordError(0, "a field is cut short")
        elif kind is Kind.NUMBER:
            (values[name],) = _U64.unpack_from(body, position)
            position += 8
        else:
            rest = name
    if layout.attrs:
        attrs = NO_ATTRS
        if flags & _ATTRS:
            attrs, position = _unpack_attrs(body, position)
        values["attrs"] = attrs
    if rest:
        values[rest] = body[position:]
    elif position != len(body):
        raise BadRecordError(0, "bytes are left over")
    record: Record = layout.type(**values, time=time)
    return record


def _pack_attrs(attrs: Attrs) -> bytes:
    mask = 0
    parts = []
    for bit, (value, form) in enumerate(zip(attrs, _ATTR_FORMS, strict=True)):
        if value is not None:
            mask |= 1 << bit
            parts.append(form.pack(value))
    return bytes((mask,)) + b"".join(parts)


def _unpack_attrs(body: bytes, position: int) -> tuple[Attrs, int]:
    (mask,) = struct.unpack_from("<B", body, position)
    position += 1
    values: list[int | None] = []
    for bit, form in enumerate(_ATTR_FORMS):
        if mask & 1 << bit:
            values.append(form.unpack_from(body, position)[0])
            position += form.size
        else:
            values.append(None)
    attrs = Attrs(*values)
    if (attrs.mode or 0) > _MAX_MODE or (attrs.ino or 0) > _MAX_INO:
        raise BadRecordError(0, "an attribute is out of range")
    return attrs, position
