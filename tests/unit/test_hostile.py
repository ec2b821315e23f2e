"""Logs whose checksums are right and whose records nobody can have written."""

import os
import stat

import pytest

import kvfs
from kvfs.codec import BinaryCodec, Place, SegmentHeader
from kvfs.errors import CorruptionError
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

HUGE = 2**64 - 1
MISFITS = {
    "exchange with itself": [Mkdir(b"d"), Rename(b"d", b"d", True, True, True)],
    "exchange of a value with itself": [Put(b"d", b""), Rename(b"d", b"d", exchange=True)],
    "exchange outside": [
        Put(b"..", b""),
        Mkdir(b"d"),
        Rename(b"..", b"d", new_directory=True, exchange=True),
    ],
    "type of a special file": [Mknod(b"n", 1 << 40 | stat.S_IFIFO, 0)],
    "a regular special file": [Mknod(b"n", stat.S_IFREG, 0)],
    "offset": [Put(b"a", b""), Write(b"a", HUGE, b"x")],
    "size": [Put(b"a", b""), Truncate(b"a", HUGE)],
    "time": [Put(b"a", b"", time=2**63 - 1)],
    "time before all": [Put(b"a", b"", time=-1)],
    "number": [Put(b"a", b"", Attrs(ino=2**62 - 1))],
    "number of the root": [Put(b"a", b"", Attrs(ino=1))],
    "number in use": [Put(b"a", b"", Attrs(ino=16)), Put(b"b", b"", Attrs(ino=16))],
    "directory outside": [Mkdir(b"../x")],
    "directory moved outside": [Mkdir(b"d"), Rename(b"d", b"../x", directory=True)],
    "directory into itself": [Mkdir(b"d"), Rename(b"d", b"d/e", directory=True)],
    "the root": [Rename(b"", b"d", directory=True)],
    "a full directory": [Put(b"d/a", b""), Delete(b"d", directory=True)],
    "no directory": [Delete(b"d", directory=True)],
    "nothing to write to": [Write(b"a", 0, b"x")],
    "nothing to link": [Link(b"a", b"b")],
    "nothing to move": [Rename(b"a", b"b")],
    "nothing to set": [Setattr(b"a", Attrs(mode=0))],
    "nothing to mark": [Setxattr(b"a", b"user.n", b"")],
    "no such mark": [Put(b"a", b""), Removexattr(b"a", b"user.n")],
    "a link over a value": [Put(b"a", b""), Symlink(b"a", b"/")],
    "a value over a link": [Symlink(b"a", b"/"), Put(b"a", b"")],
}


def forge(path, records):
    """Write `records` as the log of the store at `path`."""
    config = kvfs.init(path, max_segment_size=65_536)
    codec = BinaryCodec(config.id)
    data = codec.header(SegmentHeader(config.id, 1, 0))
    for record in records:
        data += codec.seal(codec.encode(record), Place(1, len(data)))
    with open(os.path.join(path, "segments", "00000001.seg"), "wb") as file:
        file.write(data)


@pytest.mark.parametrize("records", MISFITS.values(), ids=MISFITS)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_record_that_does_not_fit_is_refused_with_its_place(tmp_path, records, read_only):
    path = str(tmp_path / "store")
    forge(path, records)
    with pytest.raises(CorruptionError, match=r"00000001\.seg is damaged at offset \d+"):
        kvfs.open(path, read_only=read_only)


@pytest.mark.parametrize(
    "record",
    [Put(b"a", b"", Attrs(ino=2**61 - 1)), Put(b"a", b"", time=2**62 - 1)],
    ids=["the last number", "the last moment"],
)
def test_a_log_at_its_limits_never_locks_itself_out(tmp_path, record):
    path = str(tmp_path / "store")
    forge(path, [record])
    with kvfs.open(path) as store:
        try:
            store.put("b", "1")
            store.put("b/c", "2")
        except kvfs.KvfsError:
            pass
        expected = dict(store.items())
    with kvfs.open(path) as store:
        assert dict(store.items()) == expected
