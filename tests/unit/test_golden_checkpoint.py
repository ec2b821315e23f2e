"""The golden checkpoint of docs/format.md: written byte for byte, and read back."""

import os
from pathlib import Path

from test_table_states import looked_at

from kvfs.checkpoint import Checkpoint, Position, write
from kvfs.disk import Disk
from kvfs.records import (
    Attrs,
    Link,
    Location,
    Mkdir,
    Mknod,
    Put,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)
from kvfs.table import Table

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoint.ckp"
ID = bytes.fromhex("00112233445566778899aabbccddeeff")
TIME = 10**18
RECORDS = [
    Put(b"a", b"hi"),
    Put(b"empty", b""),
    Mkdir(b"d", Attrs(mode=0o750)),
    Put(b"d/long", b"x" * 100, Attrs(uid=7)),
    Write(b"d/long", 50, b"y" * 10),
    Truncate(b"d/long", 200),
    Link(b"d/long", b"d/other"),
    Setxattr(b"a", b"user.n", b"v"),
    Symlink(b"s", b"a"),
    Mknod(b"p", 0o010600, 0),
    Put(b"i/mplicit", b"1"),
    Put(b"d", b"aside"),
    Put(b"..", b"no path"),
    Put(b"k" * 300, b"in pieces"),
]


def table():
    made = Table(1000, 1001, TIME)
    for count, record in enumerate(RECORDS):
        location = Location(1, 64 + 200 * count, 24 + len(getattr(record, "data", b"")))
        made.apply(record._replace(time=TIME + count), location)
    return made


def test_it_is_written_as_it_was(tmp_path):
    disk = Disk()
    made = table()
    defaults = (1000, 1001, TIME)
    position = Position(
        len(RECORDS), 1, 4000, 0x12345678, 3936, TIME + 13, len(made.nodes), defaults
    )
    path = tmp_path / "checkpoint.ckp"
    fd = disk.open(str(path), os.O_RDWR | os.O_CREAT)
    write(disk, fd, ID, made, position, None)
    disk.close(fd)
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_it_is_read_as_it_was():
    checkpoint = Checkpoint.open(Disk(), str(GOLDEN), ID)
    try:
        assert checkpoint.position == (
            14,
            1,
            4000,
            0x12345678,
            3936,
            TIME + 13,
            15,
            (1000, 1001, TIME),
        )
        stands = Table(1000, 1001, TIME, (checkpoint, checkpoint.state))
        assert looked_at(stands) == looked_at(table())
    finally:
        checkpoint.close()
