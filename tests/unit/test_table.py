import stat

import pytest

from kvfs.errors import CorruptionError
from kvfs.records import (
    Attrs,
    Delete,
    Link,
    Location,
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
from kvfs.table import Directory, Extent, File, Table
from kvfs.table import Symlink as SymlinkNode

FIRST = 16


class Machine:
    """A table fed with records, each at a location and a time of its own."""

    def __init__(self):
        self.table = Table(1000, 1001, 5)
        self.count = 0

    def do(self, *records):
        for record in records:
            self.count += 1
            place = Location(1, self.count * 100, 50)
            self.table.apply(record._replace(time=self.count * 10), place)
        return self.count * 10

    def paths(self):
        """Return every path with the number and the kind of its node."""
        found = {}
        stack = [(b"", self.table.root)]
        while stack:
            prefix, directory = stack.pop()
            for name, ino in directory.entries.items():
                node = self.table.node(ino)
                path = prefix + name
                found[path] = ino
                if isinstance(node, Directory):
                    stack.append((path + b"/", node))
        return found

    def aside(self):
        return set(self.table.directory(3).entries)

    def value(self, key):
        """Return the number of the put that the value of `key` comes from."""
        node = self.table.find(key)
        return node.extents[0].location.offset // 100 if isinstance(node, File) else None

    def keys(self):
        found = list(self.table.valued())
        assert len(found) == len(set(found)) == self.table.values
        return set(found)


@pytest.fixture
def machine():
    return Machine()


def put(key, **attrs):
    return Put(key, b"data", Attrs(**attrs))


# -- each record -------------------------------------------------------------------


def test_put_makes_a_file_with_the_defaults(machine):
    time = machine.do(put(b"a"))
    node = machine.table.find(b"a")
    assert (node.mode, node.uid, node.gid, node.nlink) == (stat.S_IFREG | 0o644, 1000, 1001, 1)
    assert (node.atime, node.mtime, node.ctime, node.size) == (time, time, time, 4)
    assert node.extents == [Extent(0, 4, Location(1, 100, 50), 0)]
    assert machine.table.root.mtime == machine.table.root.ctime == time


def test_put_takes_its_attributes(machine):
    machine.do(put(b"a", mode=0o600, uid=7, gid=8, atime=-1, mtime=2, ctime=3, born=6, ino=99))
    node = machine.table.find(b"a")
    assert (node.mode & 0o7777, node.uid, node.gid, node.ino) == (0o600, 7, 8, 99)
    assert (node.atime, node.mtime, node.ctime) == (-1, 2, 3)
    assert machine.table.root.mtime == 6


def test_put_again_replaces_the_content_and_keeps_the_file(machine):
    machine.do(put(b"a", mode=0o600))
    born = machine.table.root.mtime
    time = machine.do(Put(b"a", b""))
    node = machine.table.find(b"a")
    assert (node.ino, node.mode & 0o7777, node.size, node.extents) == (FIRST, 0o600, 0, [])
    assert (node.atime, node.mtime, node.ctime) == (born, time, time)
    assert machine.table.root.mtime == born


def test_write_and_truncate_change_the_content(machine):
    machine.do(Put(b"a", b"0123456789"), Write(b"a", 4, b"xy"))
    node = machine.table.find(b"a")
    assert [(e.start, e.length, e.location.offset, e.skip) for e in node.extents] == [
        (0, 4, 100, 0),
        (4, 2, 200, 0),
        (6, 4, 100, 6),
    ]
    machine.do(Truncate(b"a", 5))
    assert (node.size, [e.length for e in node.extents]) == (5, [4, 1])
    time = machine.do(Truncate(b"a", 100))
    assert (node.size, node.blocks, node.mtime, node.ctime) == (100, 1, time, time)
    machine.do(Write(b"a", 1000, b"z"))
    assert node.size == 1001


def test_delete_of_nothing_changes_nothing(machine):
    machine.do(put(b"a"))
    before = machine.table.root.mtime
    machine.do(Delete(b"b"), Delete(b"a/b"), Delete(b"a//b"))
    assert (machine.keys(), machine.table.root.mtime) == ({b"a"}, before)


def test_delete_detaches_the_node_and_touches_the_directory(machine):
    machine.do(put(b"a"))
    node = machine.table.find(b"a")
    time = machine.do(Delete(b"a"))
    assert (machine.keys(), machine.table.detached, node.nlink) == (set(), [node], 0)
    assert node.ctime == machine.table.root.mtime == time
    assert machine.table.node(FIRST) is None


def test_mkdir_and_its_delete(machine):
    machine.do(Mkdir(b"d", Attrs(mode=0o700)))
    directory = machine.table.find_directory(b"d")
    assert (directory.mode, directory.ino) == (stat.S_IFDIR | 0o700, FIRST)
    assert machine.table.root.subdirs == 1
    machine.do(put(b"d/a"))
    with pytest.raises(CorruptionError):
        machine.do(Delete(b"d", directory=True))
    machine.do(Delete(b"d/a"))
    assert machine.paths() == {b"d": FIRST}
    machine.do(Delete(b"d", directory=True))
    assert (machine.paths(), machine.table.root.subdirs) == ({}, 0)


def test_symlinks_and_special_files(machine):
    machine.do(
        Symlink(b"l", b"to"), Mknod(b"f", stat.S_IFIFO | 0o620, 0), Mknod(b"c", stat.S_IFCHR, 259)
    )
    link, fifo, device = (machine.table.find(key) for key in (b"l", b"f", b"c"))
    assert isinstance(link, SymlinkNode)
    assert (link.target, link.size, link.mode) == (b"to", 2, stat.S_IFLNK | 0o777)
    assert fifo.mode == stat.S_IFIFO | 0o620
    assert (device.rdev, device.mode) == (259, stat.S_IFCHR)
    assert machine.keys() == set()
    for mode in (stat.S_IFREG, stat.S_IFDIR, 0o644):
        with pytest.raises(CorruptionError):
            machine.do(Mknod(b"x", mode, 0))


def test_link_gives_a_second_name_until_the_last_goes(machine):
    machine.do(put(b"a"), Link(b"a", b"d/b"))
    node = machine.table.find(b"d/b")
    assert node is machine.table.find(b"a")
    assert (node.nlink, machine.keys()) == (2, {b"a", b"d/b"})
    machine.do(Delete(b"a"))
    assert (node.nlink, machine.table.key_of(node), machine.table.detached) == (1, b"d/b", [])
    machine.do(Delete(b"d/b"))
    assert machine.table.detached[0] is node
    assert machine.paths() == {}


def test_attributes_are_set_field_by_field(machine):
    machine.do(put(b"a"), Mkdir(b"d"))
    time = machine.do(Setattr(b"a", Attrs(mode=0o4711, uid=1)))
    node = machine.table.find(b"a")
    assert (node.mode, node.uid, node.gid) == (stat.S_IFREG | 0o4711, 1, 1001)
    assert (node.atime, node.mtime, node.ctime) == (10, 10, time)
    time = machine.do(Setattr(b"d", Attrs(atime=-5, mtime=-6), directory=True))
    directory = machine.table.find_directory(b"d")
    assert (directory.atime, directory.mtime, directory.ctime) == (-5, -6, time)
    time = machine.do(Setattr(b"", Attrs(mode=0o700), directory=True))
    assert machine.table.root.mode == stat.S_IFDIR | 0o700


def test_extended_attributes(machine):
    machine.do(put(b"a"), Setxattr(b"a", b"user.x", b"1"), Setxattr(b"a", b"user.y", b""))
    node = machine.table.find(b"a")
    assert node.xattrs == {b"user.x": b"1", b"user.y": b""}
    time = machine.do(Removexattr(b"a", b"user.x"))
    assert (node.xattrs, node.ctime) == ({b"user.y": b""}, time)
    with pytest.raises(CorruptionError):
        machine.do(Removexattr(b"a", b"user.x"))


@pytest.mark.parametrize(
    "record",
    [
        Write(b"no", 0, b""),
        Truncate(b"no", 0),
        Link(b"no", b"b"),
        Link(b"a", b"a"),
        Rename(b"no", b"b"),
        Rename(b"a", b"no", exchange=True),
        Rename(b"a", b"b", directory=True),
        Setattr(b"no", Attrs()),
        Setxattr(b"a", b"n", b"v", directory=True),
        Delete(b"a", directory=True),
        Delete(b"", directory=True),
        Symlink(b"a", b"x"),
        Put(b"new", b"", Attrs(ino=FIRST)),
        Put(b"new", b"", Attrs(ino=1)),
        Put(b"l", b""),
    ],
)
def test_records_that_fit_no_state_are_corruption(machine, record):
    machine.do(put(b"a"), Symlink(b"l", b"x"))
    with pytest.raises(CorruptionError):
        machine.do(record)


# -- flat keys ----------------------------------------------------------------------


def test_a_then_a_slash_b(machine):
    machine.do(put(b"a"), put(b"a/b"))
    assert machine.keys() == {b"a", b"a/b"}
    assert (machine.value(b"a"), machine.value(b"a/b")) == (1, 2)
    assert machine.table.find_directory(b"a") is not None
    assert machine.aside() == {b"a"}
    machine.do(Delete(b"a/b"))
    assert (machine.value(b"a"), machine.paths(), machine.aside()) == (1, {b"a": FIRST}, set())


def test_a_slash_b_then_a(machine):
    machine.do(put(b"a/b"), put(b"a"))
    assert (machine.value(b"a"), machine.value(b"a/b"), machine.aside()) == (2, 1, {b"a"})
    machine.do(Delete(b"a"))
    assert (machine.keys(), machine.aside()) == ({b"a/b"}, set())
    machine.do(put(b"a"), Delete(b"a/b"), Delete(b"a"))
    assert (machine.paths(), machine.aside(), machine.keys()) == ({}, set(), set())


def test_shadows_three_deep_settle_one_after_the_other(machine):
    machine.do(put(b"a"), put(b"a/b"), put(b"a/b/c"))
    assert machine.aside() == {b"a", b"a%2Fb"}
    machine.do(Delete(b"a/b/c"))
    assert machine.aside() == {b"a"}
    assert machine.value(b"a/b") == 2
    machine.do(Delete(b"a/b"))
    assert (machine.paths().keys(), machine.value(b"a")) == ({b"a"}, 1)


def test_a_link_stands_aside_as_a_value_does(machine):
    machine.do(Symlink(b"a", b"to"), put(b"a/b"))
    assert machine.table.find(b"a").target == b"to"
    machine.do(Delete(b"a/b"))
    assert machine.table.find(b"a").target == b"to"


def test_implicit_directories_go_with_their_last_key(machine):
    machine.do(put(b"x/y/z/1"), put(b"x/y/2"), Delete(b"x/y/z/1"))
    assert machine.paths().keys() == {b"x", b"x/y", b"x/y/2"}
    machine.do(Delete(b"x/y/2"))
    assert machine.paths() == {}


@pytest.mark.parametrize(
    "keeper",
    [
        Mkdir(b"x/y"),
        Setattr(b"x/y", Attrs(mode=0o700), directory=True),
        Setxattr(b"x/y", b"user.a", b"", directory=True),
    ],
)
def test_a_directory_that_was_given_something_stays(machine, keeper):
    machine.do(put(b"x/y/z"), keeper, Delete(b"x/y/z"))
    assert machine.paths().keys() == {b"x", b"x/y"}
    machine.do(Delete(b"x/y", directory=True))


def test_removing_a_directory_brings_its_value_back(machine):
    machine.do(Mkdir(b"a"), put(b"a"))
    assert machine.aside() == {b"a"}
    machine.do(Delete(b"a", directory=True))
    assert (machine.paths().keys(), machine.aside(), machine.value(b"a")) == ({b"a"}, set(), 2)


@pytest.mark.parametrize("key", [b"", b"..", b"a//b", b".kvfs", b"x" * 256, b"\0" * 400])
def test_keys_that_are_no_paths_stand_aside(machine, key):
    machine.do(put(key))
    assert (machine.keys(), machine.paths(), machine.value(key)) == ({key}, {}, 1)
    machine.do(Delete(key))
    assert (machine.keys(), machine.aside()) == (set(), set())


# -- rename ---------------------------------------------------------------------------


def test_rename_replaces_the_value_there(machine):
    machine.do(put(b"a"), put(b"d/b"))
    target = machine.table.find(b"d/b")
    time = machine.do(Rename(b"a", b"d/b"))
    assert (machine.keys(), machine.value(b"d/b")) == ({b"d/b"}, 1)
    assert machine.table.detached == [target]
    assert machine.table.find(b"d/b").ctime == machine.table.root.mtime == time


@pytest.mark.parametrize(
    ("old", "new"), [(b"a", b"a/b"), (b"a/b", b"a"), (b"", b"a/b"), (b"a/b", b"")]
)
def test_rename_up_and_down_its_own_path(machine, old, new):
    machine.do(put(old), Rename(old, new))
    assert (machine.keys(), machine.value(new)) == ({new}, 1)
    machine.do(Delete(new))
    assert (machine.paths(), machine.aside()) == ({}, set())


def test_rename_onto_another_name_of_itself_does_nothing(machine):
    machine.do(put(b"a"), Link(b"a", b"b"), Rename(b"a", b"b"))
    assert machine.keys() == {b"a", b"b"}


def test_rename_of_a_directory_takes_the_shadowed_values_below_along(machine):
    machine.do(put(b"d/a"), put(b"d/a/b"), put(b"d"), Rename(b"d", b"e", directory=True))
    assert machine.keys() == {b"e/a", b"e/a/b", b"d"}
    assert machine.paths().keys() == {b"d", b"e", b"e/a", b"e/a/b"}
    assert (machine.value(b"e/a"), machine.value(b"d")) == (1, 3)
    machine.do(Delete(b"e/a/b"))
    assert machine.value(b"e/a") == 1
    assert machine.aside() == set()


def test_rename_of_a_directory_over_an_empty_one_with_a_value(machine):
    machine.do(Mkdir(b"e"), put(b"e"), put(b"d/a"), Rename(b"d", b"e", directory=True))
    assert machine.keys() == {b"e", b"e/a"}
    machine.do(Delete(b"e/a"))
    assert machine.value(b"e") == 2


def test_exchange_of_two_directories_moves_the_shadowed_values(machine):
    machine.do(put(b"d/a"), put(b"d/a/b"), put(b"e/c"), put(b"d"))
    machine.do(Rename(b"d", b"e", True, True, True))
    assert machine.keys() == {b"e/a", b"e/a/b", b"d/c", b"d"}
    assert (machine.value(b"e/a"), machine.value(b"d")) == (1, 4)


def test_exchange_of_a_value_and_a_directory(machine):
    machine.do(put(b"f"), put(b"d/a"), Rename(b"d", b"f", directory=True, exchange=True))
    assert machine.keys() == {b"d", b"f/a"}
    assert machine.value(b"d") == 1


def test_exchange_of_a_value_and_a_shadowed_directory_loses_no_value(machine):
    machine.do(put(b"d"), put(b"d/a"), put(b"f"))
    try:
        machine.do(Rename(b"d", b"f", directory=True, exchange=True))
    except CorruptionError:
        return  # refusing is one way not to lose a value
    assert len(machine.keys()) == 3
    assert {machine.value(key) for key in machine.keys()} == {1, 2, 3}


# -- inode numbers ----------------------------------------------------------------------


def test_numbers_count_directories_first(machine):
    machine.do(put(b"a"), put(b"x/y/z"), Mkdir(b"m"), put(b"x/y/w"))
    numbers = {b"a": 16, b"x": 17, b"x/y": 18, b"x/y/z": 19, b"m": 20, b"x/y/w": 21}
    assert machine.paths() == numbers


def test_an_explicit_number_counts_for_its_directories_too(machine):
    machine.do(put(b"x/y/z", ino=50), put(b"b"))
    assert machine.paths() == {b"x": 48, b"x/y": 49, b"x/y/z": 50, b"b": 51}
    machine.do(put(b"c", ino=20), put(b"d"))
    assert machine.paths()[b"d"] == 52


def test_a_link_and_a_rename_number_only_new_directories(machine):
    machine.do(put(b"a"), Link(b"a", b"p/q/l"), Rename(b"a", b"r/a"), put(b"z"))
    numbers = {b"p": 17, b"p/q": 18, b"p/q/l": 16, b"r": 19, b"r/a": 16, b"z": 20}
    assert machine.paths() == numbers


def test_numbers_are_never_reused(machine):
    machine.do(put(b"a"), Delete(b"a"), put(b"a"))
    assert machine.paths() == {b"a": 17}
