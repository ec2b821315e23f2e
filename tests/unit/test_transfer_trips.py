"""A store that is exported and imported is the same store, whatever is in it."""

import os
import stat

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transferring import bring, export, state, values

import kvfs
from kvfs.errors import KvfsError
from kvfs.records import Attrs
from kvfs.store.files import Owner
from kvfs.table import KEYS_INO, ROOT_INO, Directory, File
from kvfs.table.lifetimes import EXPIRES
from kvfs.transfer.entries import Name

NAMES = [b"a", b"b", b"n\xff\n", b"x" * 255, b"%41", b"-", "ü".encode(), b"s p", b".x"]
KEYS = [b"", b"a", b"a/b", b"a//b", b"..", b"b/a/a", b"\0", b".kvfs/keys/a", b"y" * 700]
TIMES = st.sampled_from([-1, -1_500_000_001, 0, 10**9, 981_173_106_789_000_000, 2**62])
DATA = st.sampled_from([b"", b"1", b"|\n\0%41", b"\xff" * 600, b"text\n", bytes(1000), b"\xc3"])
OWNERS = st.tuples(st.sampled_from([0, 7, 2**31 + 5]), st.sampled_from([0, 8, 2**32 - 2]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(KEYS), DATA),
        st.tuples(
            st.sampled_from(["file", "mkdir", "symlink", "fifo", "device", "socket"]),
            st.integers(0, 5),
            st.sampled_from(NAMES),
            OWNERS,
            st.integers(0, 0o7777),
            DATA,
        ),
        st.tuples(st.just("link"), st.integers(0, 9), st.integers(0, 5), st.sampled_from(NAMES)),
        st.tuples(st.just("xattr"), st.integers(0, 9), st.sampled_from([b"a=b", b"%3D"]), DATA),
        st.tuples(st.just("mtime"), st.integers(0, 9), TIMES),
        st.tuples(st.just("large"), st.integers(0, 9), st.integers(0, 3_000_000), DATA),
    ),
    max_size=25,
)


class Maker:
    """Makes what the steps say in an open store; what cannot be is left out."""

    def __init__(self, store):
        self.store, self.files = store, store.files

    def nodes(self):
        nodes = self.store.table.nodes
        return [nodes[number] for number in sorted(nodes) if number >= 16 or number == ROOT_INO]

    def pick(self, index, kind=object):
        found = [node for node in self.nodes() if isinstance(node, kind)]
        return found[index % len(found)] if found else None

    def do(self, step):
        what, *rest = step
        try:
            if hasattr(self, what):
                getattr(self, what)(*rest)
            else:
                self.make(what, *rest)
        except KvfsError:
            pass

    def put(self, key, data):
        self.store.put(key, data)

    def make(self, what, above, name, owner, mode, data):
        above, owner = self.pick(above, Directory).ino, Owner(*owner, mode)
        kinds = {"fifo": stat.S_IFIFO, "device": stat.S_IFCHR, "socket": stat.S_IFSOCK}
        if what == "file":
            node = self.files.create(above, name, owner)
            self.files.content.write(node, 0, data)
            self.files.content.commit(node)
        elif what == "mkdir":
            self.files.mkdir(above, name, owner)
        elif what == "symlink":
            self.files.symlink(above, name, data.replace(b"\0", b"0") or b"x", owner)
        else:
            rdev = os.makedev(4095, 2**20 - 1) if what == "device" else 0
            self.files.mknod(above, name, owner, kinds[what], rdev)

    def link(self, node, above, name):
        self.files.link(self.pick(node), self.pick(above, Directory).ino, name)

    def xattr(self, node, name, data):
        self.files.setxattr(self.pick(node, (File, Directory)), b"user." + name, data)

    def mtime(self, node, time):
        self.files.setattr(self.pick(node), Attrs(mtime=time))

    def large(self, node, offset, data):
        node = self.pick(node)
        if stat.S_ISREG(node.mode):
            self.files.content.write(node, offset, data)
            self.files.content.commit(node)


def make(path, steps, form="binary"):
    kvfs.init(path, format=form)
    with kvfs.open(path) as store:
        maker = Maker(store)
        for step in steps:
            maker.do(step)
    return path


def trip(directory, steps, form, name, source="binary"):
    """Make a store, export it, import that to a new one; return the paths of both."""
    old, new = str(directory / "old"), str(directory / "new")
    make(old, steps, source)
    counts = export(old, directory / name, form)
    kvfs.init(new)
    back = bring(new, directory / name, form)
    assert (back.keys, back.bytes) == (counts.keys, counts.bytes)
    return old, new


def without_sockets(found):
    return {
        name: fields
        for name, fields in found.items()
        if not stat.S_ISSOCK(int(fields[0], 8))
        and (fields[-1] is None or not stat.S_ISSOCK(int(found[fields[-1]][0], 8)))
    }


many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def fresh(tmp_path_factory):
    return lambda: tmp_path_factory.mktemp("trip")


@many
@given(steps=STEPS)
def test_json_lines_keep_keys_and_values(fresh, steps):
    old, new = trip(fresh(), steps, "jsonl", "file")
    assert values(new) == values(old)


@many
@given(steps=STEPS, name=st.sampled_from(["x.tar", "x.tar.gz", "x.tar.xz", "x.tar.bz2"]))
@example(steps=[("put", b"y" * 300, b""), ("large", 0, 65537, b"1")], name="x.tar")
@example(steps=[("put", "\u00e9".encode() * 60, b""), ("large", 0, 65537, b"1")], name="x.tar")
def test_an_archive_keeps_all_but_sockets(fresh, steps, name):
    old, new = trip(fresh(), steps, "tar", name)
    assert state(new) == without_sockets(state(old))


@many
@given(steps=STEPS)
def test_a_directory_keeps_all(fresh, steps):
    steps = [step for step in steps if step[:1] != ("mtime",) or step[2] < 2**34 * 10**9]
    old, new = trip(fresh(), steps, "tree", "tree")
    assert state(new) == state(old)


@many
@given(steps=STEPS)
def test_the_text_log_keeps_all_but_times(fresh, steps):
    old, new = trip(fresh(), steps, "text", "x.log")
    assert state(new, times=False) == state(old, times=False)


@many
@given(steps=STEPS)
def test_the_text_log_of_a_text_store_keeps_times_that_were_set(fresh, steps):
    directory = fresh()
    make(str(directory / "old"), steps, "text")
    export(str(directory / "old"), directory / "x.log", "text")
    # The log is that of a store, too.
    replayed = directory / "replayed"
    kvfs.init(replayed, format="text")
    config = (directory / "old" / "store.toml").read_text()
    (replayed / "store.toml").write_text(config)
    (replayed / "segments" / "00000001.seg").write_bytes((directory / "x.log").read_bytes())
    assert state(str(replayed)) == state(str(directory / "old"))


def test_what_is_aside_comes_back_aside(tmp_path):
    steps = [("put", b"a", b"value"), ("put", b"a/b", b"below"), ("put", b"..", b"odd")]
    for form, name in (("tar", "x.tar"), ("tree", "tree"), ("text", "x.log")):
        directory = tmp_path / form
        directory.mkdir()
        _, new = trip(directory, steps, form, name)
        assert values(new) == {b"a": b"value", b"a/b": b"below", b"..": b"odd"}
        with kvfs.open(new, read_only=True) as store:
            assert sorted(store.table.directory(KEYS_INO).entries) == [b"%2E%2E", b"a"]


def test_large_values_and_holes(tmp_path):
    size = 5 * 2**20
    for form, name in (("jsonl", "f"), ("tar", "x.tar"), ("tree", "tree"), ("text", "x.log")):
        directory = tmp_path / form
        directory.mkdir()
        old, new = str(directory / "old"), str(directory / "new")
        with kvfs.open(old) as store:
            store.put("text", "ü" * size)
            store.put("bytes", os.urandom(size))
            store.put("nearly", b"a" * (3 * 2**18 - 1) + "ü".encode())
            node = store.files.create(ROOT_INO, b"holes", Owner(0, 0, 0o644))
            for offset in (2**20 + 1, 2**20 + 70_000, 3 * 2**20):
                store.files.content.write(node, offset, b"x" * 1000)
            store.files.content.truncate(node, size)
            store.files.content.commit(node)
        export(old, directory / name, form)
        kvfs.init(new)
        bring(new, directory / name, form)
        assert values(new) == values(old)
        if form != "jsonl":
            with kvfs.open(new, read_only=True) as store:
                assert store.files.stat_of(store.table.number_of(b"holes")).blocks < 400


def test_a_file_that_is_mostly_hole_makes_a_small_archive(tmp_path):
    with kvfs.open(tmp_path / "store") as store:
        node = store.files.create(ROOT_INO, b"f", Owner(0, 0, 0o644))
        store.files.content.truncate(node, 2**40)
        store.files.content.commit(node)
    export(tmp_path / "store", tmp_path / "x.tar", "tar")
    assert (tmp_path / "x.tar").stat().st_size < 10_000
    kvfs.init(tmp_path / "new")
    bring(tmp_path / "new", tmp_path / "x.tar")
    with kvfs.open(tmp_path / "new", read_only=True) as store:
        assert store.files.stat_of(store.table.number_of(b"f")).size == 2**40


def test_lifetimes_come_along_and_what_has_expired_does_not(tmp_path):
    with kvfs.open(tmp_path / "old") as store:
        store.put("lasting", "1", ttl="1 day")
        store.put("..", "2")
        store.put("gone", "3")
        for key in (b"..", b"gone"):
            store.files.setxattr(store.table.find(key), EXPIRES, b"1")
    for form, name in (("tar", "x.tar"), ("tree", "tree"), ("text", "x.log"), ("jsonl", "f")):
        new = str(tmp_path / f"new-{form}")
        kvfs.init(new)
        export(str(tmp_path / "old"), tmp_path / name, form)
        bring(new, tmp_path / name, form)
        assert values(new) == {b"lasting": b"1"}
        assert list(state(new)[Name(b"lasting")][3]) == ([] if form == "jsonl" else [EXPIRES])
