import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.codec import BadRecordError, BinaryCodec, SegmentHeader
from kvfs.codec.base import CHUNK
from kvfs.codec.binary import MARK
from kvfs.keys import MAX_KEY
from kvfs.records import Attrs, Delete, Put, Write

codec = BinaryCodec()
times = st.integers(-(2**63), 2**63 - 1)


@given(data=st.data())
def test_every_record_round_trips(any_record, data):
    record = data.draw(any_record(times))
    assert codec.decode(codec.encode(record)) == record


@given(data=st.data())
def test_scan_finds_each_record_where_it_was_put(any_record, data):
    items = data.draw(st.lists(st.tuples(any_record(times), st.booleans()), max_size=5))
    raws = [codec.encode(record, more=more) for record, more in items]
    head = data.draw(st.binary(max_size=70))
    scanned = list(codec.scan(head + b"".join(raws), len(head)))
    assert [(found.record, found.more) for found in scanned] == items
    offset = len(head)
    for found, raw in zip(scanned, raws, strict=True):
        assert (found.offset, found.length) == (offset, len(raw))
        offset += len(raw)


@given(data=st.data())
def test_every_bit_flip_is_refused(any_record, data):
    raw = codec.encode(data.draw(any_record(times)), more=data.draw(st.booleans()))
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecordError):
            codec.decode(bytes(damaged))


@given(data=st.data())
def test_every_cut_is_refused(any_record, data):
    raw = codec.encode(data.draw(any_record(times)))
    for length in range(len(raw)):
        with pytest.raises(BadRecordError):
            codec.decode(raw[:length])
    with pytest.raises(BadRecordError):
        codec.decode(raw + b"\0")


@given(st.binary(max_size=80), st.binary(min_size=1, max_size=80))
def test_garbage_raises_nothing_but_bad_record(head, garbage):
    with pytest.raises(BadRecordError) as caught:
        list(codec.scan(head + garbage, len(head)))
    assert caught.value.offset == len(head)


@pytest.mark.parametrize("code", range(14))
@pytest.mark.parametrize("flags", [0, 1, 2, 4, 8, 16, 32, 255])
@pytest.mark.parametrize("body", [b"", b"\xff\xff", b"\0\0", b"\1\0a\xff", b"\0" * 11, b"\0\0" * 20])
def test_bodies_that_verify_but_mean_nothing_raise_only_bad_record(code, flags, body):
    from crc32c import crc32c

    rest = struct.pack("<IBBHq", len(body), MARK, code, flags, 0) + body
    raw = struct.pack("<I", crc32c(rest)) + rest
    try:
        record = codec.decode(raw)
    except BadRecordError:
        return
    again = codec.encode(record, more=bool(flags & 1))
    assert codec.decode(again) == record


def test_resync_finds_the_next_record_behind_damage():
    bad = bytearray(codec.encode(Put(b"a", bytes([MARK]) * 30)))
    bad[0] ^= 1
    good = codec.encode(Delete(b"b"))
    assert codec.resync(bytes(bad) + good, 0) == len(bad)
    assert codec.resync(bytes(bad) + good[:-1], 0) is None
    assert codec.resync(bytes(bad), 0) is None


@given(st.binary(max_size=60))
def test_resync_needs_a_whole_record(garbage):
    assert codec.resync(garbage, 0) is None
    good = codec.encode(Delete(b"b"))
    assert codec.resync(b"\0" + garbage + good, 0) == len(garbage) + 1


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
    assert codec.decode(codec.encode(record)) == record
    assert codec.chunk(Put(b"k", b""), 2**30) == CHUNK
