import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvfs.codec import BadRecordError, SegmentHeader, TextCodec
from kvfs.codec.base import Place
from kvfs.records import (
    Attrs,
    Delete,
    Link,
    Mkdir,
    Mknod,
    Put,
    Removexattr,
    Rename,
    Setattr,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)

TIME = 1_700_000_000_123_456_789
codec = TextCodec(TIME)


def decode(line):
    """Return the record of `line`, which may stand anywhere."""
    return codec.decode(line, 3, 50)


LINES = [
    (Put(b"a", b"1"), b"P|a|1\n"),
    (Put(b"", b""), b"P||\n"),
    (Delete(b"a"), b"D|a\n"),
    (Put(b"50%", b"%41"), b"P|50%|%41\n"),
    (Put(b"a|b", b"50%"), b"p|a%7Cb|50%25\n"),
    (Put(b"a", b"x\ny\0z"), b"p|a|x%0Ay%00z\n"),
    (Put(b"\xff\r\t /", b"\x80"), b"P|\xff\r\t /|\x80\n"),
    (Delete(b"\n"), b"d|%0A\n"),
    (Delete(b"a/b", directory=True), b"D|a/b|dir\n"),
    (Put(b"a", b"1", Attrs(mode=0o600, uid=5, mtime=-7)), b"P|a|1|mode=600|uid=5|mtime=-7\n"),
    (Write(b"a", 10, b"xy"), b"W|a|10|xy\n"),
    (Truncate(b"a", 0), b"T|a|0\n"),
    (Mkdir(b"d", Attrs(ino=17)), b"M|d|ino=17\n"),
    (Symlink(b"l", b"../a|b"), b"s|l|../a%7Cb\n"),
    (Mknod(b"f", 0o010644, 0), b"N|f|10644|0\n"),
    (Link(b"a", b"b"), b"L|a|b\n"),
    (Rename(b"a", b"b"), b"R|a|b\n"),
    (Rename(b"a", b"b", True, True, True), b"R|a|b|dir|newdir|exchange\n"),
    (Setattr(b"a", Attrs(ctime=0)), b"A|a|ctime=0\n"),
    (Setxattr(b"a", b"user.x", b"v", directory=True), b"X|a|user.x|v|dir\n"),
    (Removexattr(b"a", b"user.x"), b"U|a|user.x\n"),
]

MALFORMED = [
    b"",
    b"P",
    b"P|a",
    b"P|a|b|c",
    b"P|a|1|mode=8",
    b"P|a|1|mode=10000",
    b"P|a|1|mode=",
    b"P|a|1|uid=-1",
    b"P|a|1|uid=4294967296",
    b"P|a|1|uid=1|uid=1",
    b"P|a|1|mtime=9223372036854775808",
    b"P|a|1|dir",
    b"P|a|1|name=x",
    b"P|a|1|\xff=1",
    b"p|a|%",
    b"p|a|%7c",
    b"p|a|%41",
    b"p|%0|1",
    b"D",
    b"D|a|b",
    b"D|a|dir|dir",
    b"D|a|exchange",
    b"D|a|mode=600",
    b"W|a|1",
    b"W|a|x|1",
    b"W|a|-1|1",
    b"W|a|01|1",
    b"W|a|18446744073709551616|1",
    b"T|a",
    b"T|a|",
    b"N|a|9|0",
    b"L|a",
    b"R|a",
    b"R|a|b|c",
    b"Z|a",
    b"PP|a|1",
    b" P|a|1",
    b"|a|1",
    b"\xc3\xa9|a",
    b"P|" + b"k" * 65_536 + b"|1",
]


@pytest.mark.parametrize(("record", "line"), LINES)
def test_lines_are_byte_for_byte(record, line):
    record = record._replace(time=TIME)
    assert codec.encode(record) == line
    assert decode(line) == record


@given(data=st.data())
def test_every_record_round_trips(any_record, data):
    record = data.draw(any_record(st.just(TIME)))
    raw = codec.encode(record)
    assert raw.count(b"\n") == 1
    assert b"\0" not in raw
    assert decode(raw) == record


def test_all_records_get_the_time_of_the_codec():
    assert decode(codec.encode(Delete(b"a", time=5))).time == TIME


@given(st.binary(max_size=20), st.binary(max_size=20))
@example(b"%", b"%7C")
def test_lower_case_only_where_it_must_be(key, value):
    special = any(byte in key + value for byte in (b"|", b"\n", b"\0"))
    raw = codec.encode(Put(key, value))
    assert raw[:1] == (b"p" if special else b"P")
    if not special:
        assert raw == b"P|" + key + b"|" + value + b"\n"


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_lines_are_refused(line):
    with pytest.raises(BadRecordError):
        decode(line + b"\n")


@given(
    st.lists(st.sampled_from([*b"PpDdWwTtMmSsNnLlRrAaXxUu", *b"|||%=-017a\xff"]), max_size=12).map(
        bytes
    )
)
@example(b"\xff|a")
@example(b"P|a|1|" + b"\xff=1")
@example(b"T|a|" + b"9" * 5000)
@example(b"P|a|1|mtime=" + b"9" * 5000)
def test_any_line_decodes_to_what_it_says_or_is_refused(line):
    try:
        record = decode(line + b"\n")
    except BadRecordError:
        return
    assert decode(codec.encode(record)) == record


@pytest.mark.parametrize("raw", [b"", b"P|a|1", b"P|a|1\nD|a\n", b"\n", b"P|a|1\n "])
def test_what_is_not_one_whole_line_is_refused(raw):
    with pytest.raises(BadRecordError):
        decode(raw)


@given(data=st.data())
def test_scan_finds_each_record_where_it_was_put(any_record, data):
    records = data.draw(st.lists(any_record(st.just(TIME)), max_size=5))
    raws = [codec.encode(record) for record in records]
    scanned = list(codec.scan(b"".join(raws), 1, 0))
    assert [found.record for found in scanned] == records
    assert [found.length for found in scanned] == [len(raw) for raw in raws]
    assert [found.offset for found in scanned] == [
        sum(map(len, raws[:i])) for i in range(len(raws))
    ]
    assert not any(found.more for found in scanned)


def test_scan_stops_at_the_bad_line_and_names_it():
    found = []
    with pytest.raises(BadRecordError) as caught:
        found.extend(scanned.record for scanned in codec.scan(b"D|a\nwhat?\nD|b\n", 1, 0))
    assert caught.value.offset == 4


def test_scan_refuses_a_line_without_its_end():
    with pytest.raises(BadRecordError) as caught:
        list(codec.scan(b"D|a\nD|b", 1, 0))
    assert caught.value.offset == 4


@pytest.mark.parametrize(
    ("data", "offsets"),
    [
        (b"bad\nworse\nD|b\nP|a|1\n", [10, 14]),
        (b"bad\nD|a\nworse\nD|b\n", [4, 14]),
        (b"D|a\nD|b\n", [4]),
        (b"bad\nworse\n", []),
        (b"bad\nD|b", []),
        (b"bad", []),
    ],
)
def test_resync_finds_the_good_lines_behind_a_bad_one(data, offsets):
    found = list(codec.resync(data, 1, 0))
    assert [scanned.offset for scanned in found] == offsets
    assert all(data[f.offset : f.offset + f.length] == codec.encode(f.record) for f in found)


def test_a_line_may_stand_anywhere():
    raw = codec.encode(Put(b"a", b"1"))
    assert codec.seal(raw, Place(7, 9, 3)) == raw


@given(st.binary(max_size=20), st.binary(max_size=200), st.integers(0, 300))
@example(b"", b"|" * 200, 100)
def test_a_chunk_of_any_bytes_fits(key, data, room):
    for empty in (Put(key, b""), Write(key, 0, b"")):
        size = max(codec.chunk(empty, room), 0)
        assert not size or len(codec.encode(empty._replace(data=data[:size]))) <= room


def test_there_is_no_header():
    assert codec.header(SegmentHeader(bytes(16), 1, 0)) == b""
    assert codec.parse_header(b"P|a|1\n") is None
    assert codec.header_size == 0
