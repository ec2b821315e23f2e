import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.codec import BadRecordError, BinaryCodec, SegmentHeader
from kvfs.codec.base import CHUNK, Place
from kvfs.codec.binary import _RECORD, MARK
from kvfs.keys import MAX_KEY
from kvfs.records import Attrs, Delete, Put, Write

codec = BinaryCodec(b"store id")
PLACE = Place(3, 100, 64)
times = st.integers(-(2**63), 2**63 - 1)


def encode(record, place=PLACE, *, more=False):
    return codec.seal(codec.encode(record, more=more), place)


def decode(raw, place=PLACE):
    return codec.decode(raw, place.number, place.offset)


@given(data=st.data())
def test_every_record_round_trips(any_record, data):
    record = data.draw(any_record(times))
    assert decode(encode(record)) == record


@given(data=st.data())
def test_scan_finds_each_record_where_it_was_put(any_record, data):
    items = data.draw(st.lists(st.tuples(any_record(times), st.booleans()), max_size=5))
    head = segment = data.draw(st.binary(max_size=70))
    expected = []
    for synced, (record, more) in enumerate(items):
        raw = encode(record, Place(2, len(segment), synced), more=more)
        expected.append((record, len(segment), len(raw), more, synced))
        segment += raw
    assert list(codec.scan(segment, 2, len(head))) == expected


@given(data=st.data())
def test_every_bit_flip_is_refused(any_record, data):
    raw = encode(data.draw(any_record(times)), more=data.draw(st.booleans()))
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecordError):
            decode(bytes(damaged))


@given(data=st.data())
def test_every_cut_is_refused(any_record, data):
    raw = encode(data.draw(any_record(times)))
    for length in range(len(raw)):
        with pytest.raises(BadRecordError):
            decode(raw[:length])
    with pytest.raises(BadRecordError):
        decode(raw + b"\0")


@given(st.integers(1, 2**20), st.integers(0, 2**30))
def test_a_record_verifies_at_its_own_place_only(number, offset):
    raw = encode(Put(b"a", b"1"), Place(number, offset))
    assert decode(raw, Place(number, offset)) == Put(b"a", b"1")
    for other in (Place(number + 1, offset), Place(number, offset + 1), Place(number, offset + 88)):
        with pytest.raises(BadRecordError):
            decode(raw, other)


def test_a_record_of_another_store_does_not_verify():
    with pytest.raises(BadRecordError):
        BinaryCodec(b"other id").decode(encode(Put(b"a", b"1")), PLACE.number, PLACE.offset)


@given(st.binary(max_size=80), st.binary(min_size=1, max_size=80))
def test_garbage_raises_nothing_but_bad_record(head, garbage):
    with pytest.raises(BadRecordError) as caught:
        list(codec.scan(head + garbage, 1, len(head)))
    assert caught.value.offset == len(head)


@pytest.mark.parametrize("code", range(14))
def test_bodies_that_verify_but_mean_nothing_raise_only_bad_record(code):
    bodies = [b"", b"\xff\xff", b"\0\0", b"\1\0a\xff", b"\0" * 11, b"\0\0" * 20, b"\xff" * 40]
    for flags, body in itertools.product([0, 1, 2, 4, 8, 16, 32, 255, 256], bodies):
        raw = codec.seal(_RECORD.pack(0, 0, len(body), MARK, code, flags, 0) + body, PLACE)
        try:
            record = decode(raw)
        except BadRecordError:
            continue
        assert decode(encode(record, more=bool(flags & 1))) == record


def test_resync_finds_the_records_behind_damage():
    segment = encode(Put(b"a", bytes([MARK]) * 30), Place(1, 0))
    starts = []
    for index in range(3):
        starts.append(len(segment))
        segment += encode(Delete(b"b"), Place(1, len(segment), index)) + b"junk"
    damaged = b"?" + segment[1:]
    found = list(codec.resync(damaged, 1, 0))
    assert [(scanned.offset, scanned.synced) for scanned in found] == list(
        zip(starts, range(3), strict=True)
    )
    assert list(codec.resync(damaged[: starts[0] + 10], 1, 0)) == []
    assert list(codec.resync(damaged, 2, 0)) == []


@given(st.binary(max_size=60))
def test_resync_takes_nothing_for_a_record_that_is_none(garbage):
    assert list(codec.resync(garbage, 1, 0)) == []
    good = encode(Delete(b"b"), Place(1, len(garbage) + 1))
    found = list(codec.resync(b"\0" + garbage + good, 1, 0))
    assert [scanned.offset for scanned in found] == [len(garbage) + 1]


def test_a_value_that_holds_records_is_not_taken_for_them():
    inner = encode(Delete(b"b"), Place(1, 0))
    outer = b"?" + encode(Put(b"a", inner), Place(1, 0))[1:]
    assert list(codec.resync(outer, 1, 0)) == []


def test_segment_header_round_trips_and_refuses_every_flip():
    header = SegmentHeader(bytes(range(16)), 7, 2**40)
    raw = codec.header(header)
    assert len(raw) == codec.header_size
    assert codec.parse_header(raw + b"records") == header
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecordError):
            codec.parse_header(bytes(damaged))
    with pytest.raises(BadRecordError):
        codec.parse_header(raw[:-1])


def test_a_header_of_another_version_is_refused_by_name():
    from crc32c import crc32c

    raw = bytearray(codec.header(SegmentHeader(bytes(16), 1, 0)))
    raw[8] = 9
    raw[-4:] = struct.pack("<I", crc32c(bytes(raw[:-4])))
    with pytest.raises(BadRecordError, match="version 9"):
        codec.parse_header(bytes(raw))


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_a_chunk_fills_the_room_exactly(key, room):
    for empty in (Put(key, b"", Attrs(mode=1)), Write(key, 5, b"")):
        size = codec.chunk(empty, room)
        if size > 0:
            assert len(codec.encode(empty._replace(data=bytes(size)))) == room


def test_the_largest_record_round_trips():
    record = Put(b"k" * MAX_KEY, bytes(CHUNK), Attrs(*[1] * 8), 1)
    assert decode(encode(record)) == record
    assert codec.chunk(Put(b"k", b""), 2**30) == CHUNK
