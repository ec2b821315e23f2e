"""A table that stands on a checkpoint is the table that it was made of, whatever comes after."""

import os
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_table_states import RECORDS, looked_at

from kvfs.checkpoint import BadCheckpointError, Checkpoint, Position, write
from kvfs.checkpoint.blocks import SLOTS, Blocks, BlockWriter, Writer
from kvfs.checkpoint.format import KEY_OF, NAMES
from kvfs.disk import Disk
from kvfs.errors import CorruptionError
from kvfs.records import Attrs, Delete, Location, Mkdir, Put, Rename, Setattr
from kvfs.table import Table, audit

ID = bytes(range(16))
DEFAULTS = (1000, 1001, 5)
PLACE = Location(1, 64, 50)


class Stack:
    """A table that is put on a new checkpoint again and again."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.table = Table(*DEFAULTS)
        self.below = None
        self.count = 0

    def rise(self):
        """Make a checkpoint of the table, and let a new one stand on it."""
        disk = Disk()
        self.count += 1
        path = f"{self.directory}/{self.count}"
        fd = disk.open(path, os.O_RDWR | os.O_CREAT)
        position = Position(self.count, 1, 64, 0, 0, 9, len(self.table.nodes), DEFAULTS)
        write(disk, fd, ID, self.table, position, self.below)
        disk.close(fd)
        self.close()
        self.below = Checkpoint.open(disk, path, ID)
        self.table = Table(*DEFAULTS, (self.below, self.below.state))

    def close(self):
        if self.below:
            self.below.close()


@pytest.fixture
def stack(tmp_path):
    stack = Stack(tmp_path)
    yield stack
    stack.close()


def apply(table, record, count):
    """Apply `record`, and tell whether it was taken."""
    try:
        table.apply(record._replace(time=count * 10), Location(1, count * 100, 50))
    except CorruptionError:
        return False
    table.detached.clear()
    return True


@given(st.lists(st.tuples(RECORDS, st.sampled_from([True, False, False])), max_size=25))
def test_checkpoints_on_the_way_change_nothing(tmp_path_factory, steps):
    plain, stack = Table(*DEFAULTS), Stack(tmp_path_factory.mktemp("checkpoints"))
    try:
        for count, (record, rises) in enumerate(steps, 1):
            taken = apply(plain, record, count)
            assert apply(stack.table, record, count) == taken
            if rises:
                stack.rise()
        table = stack.table
        assert len(table.nodes) == len(plain.nodes)
        assert sorted(table.valued()) == sorted(plain.valued())
        assert list(audit(table)) == []
        assert looked_at(table) == looked_at(plain)
    finally:
        stack.close()


def test_a_table_of_many_blocks(stack):
    """Nodes and names come, change and go all over the blocks, as in a plain table."""
    draw = random.Random(7)
    plain = Table(*DEFAULTS)
    names = [b"%s%d" % (draw.choice([b"", b"d/", b"e/f/"]), n) for n in range(6000)]
    for turn in range(6):
        for count in range(turn * 4000, turn * 4000 + 4000):
            key = draw.choice(names)
            records = [
                Put(key, b"x" * draw.randrange(40)),
                Put(key, b"", Attrs(mode=0o600)),
                Delete(key),
                Rename(key, draw.choice(names)),
                Setattr(key, Attrs(mtime=count)),
            ]
            (record,) = draw.choices(records, [8, 4, 2, 1, 1])
            assert apply(plain, record, count) == apply(stack.table, record, count)
        stack.rise()
    assert all(len(table.blocks) > 5 for table in stack.below.tables)
    assert looked_at(stack.table) == looked_at(plain)
    assert list(audit(stack.table)) == []
    for name in names:
        assert stack.table.number_of(name) == plain.number_of(name)


def test_what_has_not_changed_is_copied_as_it_is(stack):
    for number in range(5000):
        apply(stack.table, Put(b"%08d" % number, b"x"), number)
    stack.rise()
    before = {block.crc for table in stack.below.tables for block in table.blocks}
    apply(stack.table, Put(b"00002500", b"y"), 6000)
    stack.rise()
    after = [block.crc for table in stack.below.tables for block in table.blocks]
    assert len([crc for crc in after if crc not in before]) == 1  # that of the node


def test_names_of_a_directory_that_has_gone_are_not_kept(stack):
    apply(stack.table, Mkdir(b"d"), 1)
    for number in range(100):
        apply(stack.table, Put(b"d/%d" % number, b"x"), 2)
    stack.rise()
    for number in range(100):
        apply(stack.table, Delete(b"d/%d" % number), 3)
    apply(stack.table, Delete(b"d", directory=True), 4)
    stack.rise()
    names = [row for row, _ in stack.below.tables[NAMES].rows()]
    assert len(names) == 1  # that of .kvfs/keys


def test_files_that_are_only_read_stay_in_the_checkpoint(stack):
    for number in range(50):
        apply(stack.table, Put(b"%d" % number, b"x"), number)
    stack.rise()
    nodes = stack.table.nodes
    for number in range(50):
        assert stack.table.find(b"%d" % number).size == 1
    nodes._most_awake = -1
    nodes.settle(lambda _ino: False)
    nodes._most_awake = -1
    nodes.settle(lambda _ino: False)
    assert nodes._resting == {}


def rows(count, size=20):
    return [struct.pack(">Q", number) + b"r" * size for number in range(0, 2 * count, 2)]


@pytest.mark.parametrize("count", [0, 1, 600, 5000])
def test_rows_are_found_and_listed_from_anywhere(tmp_path, count):
    disk = Disk()
    fd = disk.open(str(tmp_path / "blocks"), os.O_RDWR | os.O_CREAT)
    out = Writer(disk, fd)
    writer = BlockWriter(out, KEY_OF[0])
    for row in rows(count):
        writer.add(row)
    writer.end()
    out.flush()
    found = Blocks(
        writer.blocks, KEY_OF[0], lambda block: disk.read(fd, block.length, block.offset)
    )
    assert [row for row, _ in found.rows()] == rows(count)
    for number in range(-1, 2 * count + 2, 7):
        key = struct.pack(">q", number)
        row = found.get(key)
        assert (row is not None) == (0 <= number < 2 * count and number % 2 == 0)
        later = [row for row, _ in found.rows(found.find(key))] if number >= 0 else []
        assert number < 0 or later == [row for row in rows(count) if row[:8] >= key]
    positions = [position for _, position in found.rows()]
    for index in range(0, count, 97):
        assert next(found.rows(positions[index]), (b"",))[0] == [*rows(count), b""][index + 1]
    assert all(block.length < 40_000 for block in writer.blocks)
    assert not positions or positions[-1] >> SLOTS == len(writer.blocks) - 1
    disk.close(fd)


def test_every_flipped_bit_is_found_on_opening(stack):
    for number in range(30):
        apply(stack.table, Put(b"%d" % number, b"x"), number)
    apply(stack.table, Put(b"d/%d" % number, b"x", Attrs(mode=0o600)), number)
    stack.rise()
    with open(stack.below.path, "rb") as file:
        data = file.read()
    path = stack.below.path + ".flipped"
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with open(path, "wb") as file:
            file.write(flipped)
        with pytest.raises(BadCheckpointError):
            Checkpoint.open(Disk(), path, ID)
    for size in range(len(data)):
        with open(path, "wb") as file:
            file.write(data[:size])
        with pytest.raises(BadCheckpointError):
            Checkpoint.open(Disk(), path, ID)
    with pytest.raises(BadCheckpointError, match="another store"):
        Checkpoint.open(Disk(), stack.below.path, bytes(16))


def test_damage_that_comes_later_is_found_where_it_is_used(stack):
    for number in range(3000):
        apply(stack.table, Put(b"%08d" % number, b"x"), number)
    stack.rise()
    block = stack.below.tables[NAMES].blocks[1]
    with open(stack.below.path, "r+b") as file:
        file.seek(block.offset)
        file.write(b"\xff")
    assert stack.table.number_of(b"00000001") is not None
    with pytest.raises(CorruptionError, match=f"1 is damaged at offset {block.offset}"):
        stack.table.number_of(block.first[8:])


def test_what_has_not_changed_is_forgotten_whatever_it_is(stack):
    """A file whose mtime is not its ctime, as copies have, is no file at rest."""
    for number in range(50):
        apply(stack.table, Put(b"%d" % number, b"x", Attrs(mtime=5)), number)
    stack.rise()
    nodes = stack.table.nodes
    for number in range(50):
        assert stack.table.find(b"%d" % number).mtime == 5
    for _ in range(10):  # half of them each time
        nodes._most_awake = -1
        nodes.settle(lambda _ino: False)
    assert nodes._resting == {}
    assert len(nodes._nodes) <= 4  # the mount's own, and the one awake last


def test_what_changed_is_kept_where_the_checkpoint_cannot_be_read(stack, monkeypatch):
    for number in range(50):
        apply(stack.table, Put(b"%d" % number, b"old"), number)
    stack.rise()
    nodes = stack.table.nodes
    assert stack.table.find(b"7").size == 3
    apply(stack.table, Put(b"7", b"newer"), 99)
    nodes._rows.clear()

    def rotten(_ino):
        raise CorruptionError("rotten")

    monkeypatch.setattr(stack.below, "row", rotten)
    for _ in range(2):
        nodes._most_awake = -1
        nodes.settle(lambda _ino: False)
    monkeypatch.undo()
    assert stack.table.find(b"7").size == 5


def test_a_block_that_cannot_be_read_is_named(stack, monkeypatch):
    apply(stack.table, Put(b"a", b"x"), 1)
    stack.rise()

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(stack.below._disk, "read", broken)
    with pytest.raises(CorruptionError, match="checkpoint 1 cannot be read at offset"):
        stack.table.number_of(b"a")
