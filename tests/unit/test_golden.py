"""The golden files: what docs/format.md says, as bytes that must never change.

`records.jsonl` has a record a line: `at` is its segment, offset and length,
`synced` what the record says was synced before it (0 if left out); a byte is a
character of the same number. `nodes.jsonl` is what a replay makes of them, for
a store of owner 0:0.
"""

import json
import re
import stat
from pathlib import Path

import pytest

import kvfs
from kvfs import config, records
from kvfs.codec import BadRecordError, BinaryCodec, Place, SegmentHeader, TextCodec
from kvfs.codec.base import Scanned
from kvfs.disk import Disk
from kvfs.log import Log
from kvfs.recovery import LogPaths
from kvfs.segment import name_of
from kvfs.table import KEYS_INO, Directory, Special, Symlink, Table

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
STORE_ID = bytes(range(0, 256, 17))
CREATED = 10**18
SIZES = {"binary": 1543, "text": 600}
FORMATS = pytest.mark.parametrize("form", SIZES)
VALUES = {
    b"": b"|\n\0%",
    b"a//=+": b"50%",
    b"a/z": b"last",
    b"big": bytes(range(256)) + b"." * 44 + b"-" * 40,
    b"d": b"aside",
    b"d/e": b"\0\0\0xy",
    b"d/l": b"1",
    b"f": b"1",
    b"v": b"old",
    b"x|y": b"100%\n",
}


def codec_of(form):
    return BinaryCodec(STORE_ID) if form == "binary" else TextCodec(CREATED)


def segments_of(form):
    directory = GOLDEN / form / "segments"
    return [path.read_bytes() for path in sorted(directory.iterdir())]


def lines_of(form, name):
    return [json.loads(line) for line in (GOLDEN / form / name).read_text().splitlines()]


def expected(form):
    """Return the segment of each record that the golden file tells, and how a scan shows it."""
    return [read_record(line) for line in lines_of(form, "records.jsonl")]


def read_record(line):
    (number, offset, length), synced = line.pop("at"), line.pop("synced", 0)
    more = line.pop("more", False)
    kind = getattr(records, line.pop("type"))
    line.setdefault("time", CREATED)
    attrs = line.get("attrs")
    for fields in (line, attrs or {}):
        if "mode" in fields:
            fields["mode"] = int(fields["mode"], 8)
    if attrs is not None:
        line["attrs"] = records.Attrs(**attrs)
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = value.encode("latin-1")
    return number, Scanned(kind(**line), offset, length, more, synced)


def open_log(form, directory, *, writable):
    directory.joinpath("segments").mkdir(exist_ok=True)
    directory.joinpath("quarantine").mkdir(exist_ok=True) if writable else None
    paths = LogPaths.of(str(directory))
    conf = config.Config(form, SIZES[form], STORE_ID, CREATED)
    return Log(Disk(), paths, conf, writable=writable)


def described(table, path, node):
    """Yield `node`, and what is below it, as `nodes.jsonl` has them."""
    line = {"path": path, "mode": f"{node.mode:o}"}
    names = ("ino", "uid", "gid", "nlink", "size", "atime", "mtime", "ctime")
    line |= {name: getattr(node, name) for name in names}
    if node.xattrs:
        line["xattrs"] = {name.decode(): value.decode() for name, value in node.xattrs.items()}
    if isinstance(node, Symlink):
        line["target"] = node.target.decode()
    if isinstance(node, Special):
        line["rdev"] = node.rdev
    if isinstance(node, Directory) and node.implicit:
        line["implicit"] = True
    yield line
    for name, ino in sorted(node.entries.items()) if stat.S_ISDIR(node.mode) else ():
        yield from described(table, f"{path.rstrip('/')}/{name.decode()}", table.node(ino))


@FORMATS
def test_every_record_type_and_flag_is_there(form):
    seen = [found.record for _, found in expected(form)]
    assert {type(record) for record in seen} == set(records.Record.__args__)
    for name in ("directory", "new_directory", "exchange"):
        assert {getattr(record, name, None) for record in seen} >= {True, False}
    attrs = [record.attrs for record in seen if hasattr(record, "attrs")]
    assert all(any(getattr(a, name) is not None for a in attrs) for name in records.Attrs._fields)


@FORMATS
def test_decode(form):
    codec = codec_of(form)
    seen = []
    for number, data in enumerate(segments_of(form), 1):
        for found in codec.scan(data, number, codec.header_size):
            raw = data[found.offset : found.offset + found.length]
            assert codec.decode(raw, number, found.offset) == found.record
            seen.append((number, found))
    assert seen == expected(form)


@FORMATS
def test_encode(form):
    codec = codec_of(form)
    made = {}
    for count, (number, found) in enumerate(expected(form)):
        header = codec.header(SegmentHeader(STORE_ID, number, count))
        data = made.setdefault(number, bytearray(header))
        assert len(data) == found.offset
        raw = codec.encode(found.record, more=found.more)
        data += codec.seal(raw, Place(number, found.offset, found.synced))
    assert list(made.values()) == segments_of(form)


def test_no_record_verifies_in_another_segment_or_store():
    other = BinaryCodec(bytes(16))
    for number, found in expected("binary"):
        data = segments_of("binary")[number - 1]
        raw = data[found.offset : found.offset + found.length]
        places = [(BinaryCodec(STORE_ID), number + 1, found.offset)]
        places += [(BinaryCodec(STORE_ID), number, found.offset + 1), (other, number, found.offset)]
        for codec, segment, offset in places:
            with pytest.raises(BadRecordError):
                codec.decode(raw, segment, offset)


def test_some_records_say_what_was_synced_before_them():
    synced = {(number, found.synced) for number, found in expected("binary") if found.synced}
    assert {number for number, _ in synced} == {1, 2}
    starts = {(number, found.offset) for number, found in expected("binary")}
    assert synced <= starts


def test_segment_headers():
    codec = BinaryCodec(STORE_ID)
    count = 0
    for number, data in enumerate(segments_of("binary"), 1):
        assert codec.parse_header(data) == SegmentHeader(STORE_ID, number, count)
        count += sum(segment == number for segment, _ in expected("binary"))
    assert all(TextCodec().parse_header(data) is None for data in segments_of("text"))


@FORMATS
def test_the_log_writes_the_same_segments(form, tmp_path):
    log = open_log(form, tmp_path, writable=True)
    assert list(log.replay()) == []
    batch = []
    for _, found in expected(form):
        if found.synced == found.offset:
            log.sync()
        batch.append(found.record)
        if not found.more:
            log.append(batch, atomic=True)
            batch = []
    log.close()
    made = {path.name: path.read_bytes() for path in (tmp_path / "segments").iterdir()}
    golden = {name_of(n): data for n, data in enumerate(segments_of(form), 1)}
    assert made == golden
    assert (tmp_path / "clean").read_bytes() == (GOLDEN / form / "clean").read_bytes()


@FORMATS
def test_replay(form):
    log = open_log(form, GOLDEN / form, writable=False)
    table = Table(0, 0, CREATED)
    for record, place in log.replay():
        table.apply(record, place)
    log.close()
    made = list(described(table, "/", table.root))
    made += described(table, "/.kvfs/keys", table.node(KEYS_INO))
    assert made == lines_of(form, "nodes.jsonl")


@FORMATS
def test_values(form):
    with kvfs.open(GOLDEN / form, read_only=True) as store:
        assert dict(store.items()) == VALUES


@FORMATS
def test_configuration(form):
    raw = (GOLDEN / form / "store.toml").read_bytes()
    told = config.Config(form, SIZES[form], STORE_ID, CREATED)
    assert config.load(raw, "store.toml") == told
    assert config.dump(told) == raw


def test_example():
    data = (GOLDEN / "example.seg").read_bytes()
    codec = BinaryCodec(STORE_ID)
    put = records.Put(b"a", b"hi", time=CREATED)
    delete = records.Delete(b"a", time=CREATED + 10**9)
    assert codec.parse_header(data) == SegmentHeader(STORE_ID, 1, 0)
    seen = [(found.record, found.synced) for found in codec.scan(data, 1, codec.header_size)]
    assert seen == [(put, 0), (delete, 93)]
    made = codec.header(SegmentHeader(STORE_ID, 1, 0))
    made += codec.seal(codec.encode(put), Place(1, 64, 0))
    made += codec.seal(codec.encode(delete), Place(1, 93, 93))
    assert made == data


@pytest.mark.parametrize(
    "row",
    [
        r"^    ([0-9a-f]{8})  ((?:[0-9a-f]{2} ?)+)$",  # the dump
        r"^\| ([0-9]+) \| `((?:[0-9a-f]{2} ?)+)` \|",  # the table that explains it
    ],
    ids=["dump", "table"],
)
def test_the_example_in_the_documentation_is_the_golden_file(row):
    page = (ROOT / "docs" / "format.md").read_text()
    base = 16 if row.startswith("^    ") else 10
    data = b""
    for offset, text in re.findall(row, page, re.MULTILINE):
        assert int(offset, base) == len(data)
        data += bytes.fromhex(text)
    assert data == (GOLDEN / "example.seg").read_bytes()
