r"""The text codec: one record a line, byte for byte the format of the first kvfs.

`P|key|value` and `D|key` are written verbatim. A lower-case letter says that
the byte fields of the line are percent-encoded, which is done only where one
holds `|`, a newline or a NUL. There is no header and no checksum, and a record
carries no time: each is read back with the time that the codec was made with.

What follows the fields of a record are the words of its flags and `name=value`
for its attributes (`mode` in octal, everything else in decimal).
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from kvfs.codec.base import CHUNK, BadRecordError, Data, Scanned, Seeming, SegmentHeader
from kvfs.codec.layout import BY_LETTER, BY_TYPE, Kind
from kvfs.keys import MAX_KEY
from kvfs.records import NO_ATTRS, Attrs, Put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kvfs.codec.base import Place
    from kvfs.records import Record

_SPECIAL = re.compile(rb"[|\n\0]")
_STRAY = re.compile(rb"%(?!25|7C|0A|00)")
_WORDS = {"directory": b"dir", "new_directory": b"newdir", "exchange": b"exchange"}
_FLAGS = {word: name for name, word in _WORDS.items()}
_LIMITS = {"mode": 0o7777, "uid": 2**32 - 1, "gid": 2**32 - 1}
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,19}")
_SIGNED = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")
_OCTAL = re.compile(rb"0|[1-7][0-7]{0,6}")
_WORST = 3  # an escaped byte takes three


class TextCodec:
    """Records as lines that `cat`, `grep` and `diff` can read."""

    name: ClassVar[str] = "text"
    header_size: ClassVar[int] = 0
    min_segment_size: ClassVar[int] = 1
    atomic: ClassVar[bool] = False
    keeps_time: ClassVar[bool] = False

    def __init__(self, time: int = 0) -> None:
        """Make a codec whose records are all of `time` (nanoseconds since 1970)."""
        self._time = time

    def header(self, header: SegmentHeader) -> bytes:
        """Return nothing: the segments hold records and not one byte more."""
        return b""

    def parse_header(self, data: bytes) -> SegmentHeader | None:
        """Return None: there is no header."""
        return None

    def parts(self, record: Record, *, more: bool = False) -> tuple[bytes, Data]:
        """Return the line, whole: what it holds may have to be escaped."""
        return self.encode(record), b""

    def encode(self, record: Record, *, more: bool = False) -> bytes:
        """Return the line of `record`, with its newline."""
        layout = BY_TYPE[type(record)]
        fields: list[bytes] = []
        special = False
        for name, kind in layout.fields:
            value: Any = getattr(record, name)
            if kind is Kind.NUMBER:
                value = b"%o" % value if name == "mode" else b"%d" % value
            else:
                value = bytes(value)
                special = special or _SPECIAL.search(value) is not None
            fields.append(value)
        letter = layout.letter
        if special:
            letter = letter.lower()
            fields = [_escape(field) for field in fields]
        fields += [_WORDS[name] for name in layout.flags if getattr(record, name)]
        if layout.attrs:
            fields += _format_attrs(record.attrs)  # type: ignore[union-attr]
        return b"|".join([letter, *fields]) + b"\n"

    def seal(self, raw: bytes, place: Place, data: Data = b"") -> bytes:
        """Return the line as it is: it may stand anywhere."""
        return raw

    def encode_at(self, record: Record, number: int, offset: int, synced: int) -> bytes:
        """Return the line of `record`, which may stand anywhere."""
        return self.encode(record)

    def decode(self, raw: bytes, number: int, offset: int) -> Record:
        """Return the record of the line `raw`."""
        if raw.count(b"\n") != 1 or not raw.endswith(b"\n"):
            raise BadRecordError(0, "this is not one whole line")
        return self._parse(raw[:-1], 0)

    def scan(self, data: bytes, number: int, offset: int, base: int = 0) -> Iterator[Scanned]:
        """Yield the records of the lines from `offset` on."""
        while offset < len(data):
            end = data.find(b"\n", offset)
            if end < 0:
                raise BadRecordError(offset, "the line is cut short")
            yield Scanned(
                self._parse(data[offset:end], offset), offset, end + 1 - offset, more=False
            )
            offset = end + 1

    def resync(self, data: bytes, number: int, offset: int) -> Iterator[Scanned]:
        """Try every line behind the bad one."""
        start = data.find(b"\n", offset) + 1
        while start and (end := data.find(b"\n", start)) >= 0:
            with suppress(BadRecordError):
                record = self._parse(data[start:end], start)
                yield Scanned(record, start, end + 1 - start, more=False)
            start = end + 1

    def seeming(self, data: bytes, offset: int) -> Seeming | None:
        """Return what the first fields of the line say, if its letter is one."""
        end = data.find(b"\n", offset)
        end = len(data) if end < 0 else end
        letter, *fields = data[offset:end].split(b"|")
        layout = BY_LETTER.get(letter.upper())
        if layout is None or not fields:
            return None
        keys = [_unescape(field) for field in fields[:2]] if letter.islower() else fields[:2]
        new = keys[1] if len(keys) > 1 and ("new", Kind.BYTES) in layout.fields else None
        directory = _WORDS["directory"] in fields[len(layout.fields) :]
        return Seeming(end + 1 - offset, layout.type.__name__, keys[0], new, directory)

    def chunk(self, record: Record, room: int) -> int:
        """Return what fits even if every byte must be escaped."""
        return min(CHUNK, (room - _WORST * len(self.encode(record))) // _WORST)

    def _parse(self, line: bytes, offset: int) -> Record:
        letter, *fields = line.split(b"|")
        if letter == b"P" and len(fields) == 2:  # noqa: PLR2004 - key and value, by far the most common
            if len(fields[0]) > MAX_KEY:
                raise BadRecordError(offset, "the key is too long")
            return Put(fields[0], fields[1], NO_ATTRS, self._time)
        layout = BY_LETTER.get(letter.upper())
        if layout is None or len(fields) < len(layout.fields):
            raise BadRecordError(offset, "this line is no record")
        escaped = letter.islower()
        values: dict[str, Any] = {}
        for (name, kind), field in zip(layout.fields, fields, strict=False):
            values[name] = _parse_field(name, kind, field, offset, escaped=escaped)
        rest = fields[len(layout.fields) :]
        words = {_FLAGS[word] for word in rest if word in _FLAGS}
        given = [word for word in rest if word not in _FLAGS]
        if not words <= set(layout.flags) or len(words) + len(given) != len(rest):
            raise BadRecordError(offset, "the record has a word that it cannot have")
        values.update({name: name in words for name in layout.flags})
        if layout.attrs:
            values["attrs"] = _parse_attrs(given, offset)
        elif given:
            raise BadRecordError(offset, "the record has fields that it cannot have")
        record: Record = layout.type(**values, time=self._time)
        return record


def _parse_field(name: str, kind: Kind, field: bytes, offset: int, *, escaped: bool) -> bytes | int:
    if kind is Kind.NUMBER:
        form, base = (_OCTAL, 8) if name == "mode" else (_NUMBER, 10)
        number = int(field, base) if form.fullmatch(field) else -1
        if not 0 <= number < 2**64:
            raise BadRecordError(offset, f"the {name} is no number")
        return number
    if escaped:
        if _STRAY.search(field):
            raise BadRecordError(offset, "a percent sign stands for nothing")
        field = _unescape(field)
    if kind is Kind.BYTES and len(field) > MAX_KEY:
        raise BadRecordError(offset, f"the {name} is too long")
    return field


def _escape(field: bytes) -> bytes:
    field = field.replace(b"%", b"%25").replace(b"|", b"%7C")
    return field.replace(b"\n", b"%0A").replace(b"\0", b"%00")


def _unescape(field: bytes) -> bytes:
    field = field.replace(b"%00", b"\0").replace(b"%0A", b"\n")
    return field.replace(b"%7C", b"|").replace(b"%25", b"%")


def _format_attrs(attrs: Attrs) -> list[bytes]:
    given: Mapping[str, int | None] = attrs._asdict()
    return [
        (b"%s=%o" if name == "mode" else b"%s=%d") % (name.encode(), value)
        for name, value in given.items()
        if value is not None
    ]


def _parse_attrs(words: list[bytes], offset: int) -> Attrs:
    values: dict[str, int] = {}
    for word in words:
        raw_name, _, text = word.partition(b"=")
        name = raw_name.decode("ascii", "replace")
        if name not in Attrs._fields or name in values:
            raise BadRecordError(offset, "the record has an attribute that it cannot have")
        form, base = (_OCTAL, 8) if name == "mode" else (_SIGNED, 10)
        if not form.fullmatch(text):
            raise BadRecordError(offset, f"the {name} is no number")
        value = int(text, base)
        low = -(2**63) if name.endswith("time") or name == "born" else 0
        if not low <= value <= _LIMITS.get(name, 2**63 - 1):
            raise BadRecordError(offset, f"the {name} is out of range")
        values[name] = value
    return Attrs(**values) if values else NO_ATTRS
