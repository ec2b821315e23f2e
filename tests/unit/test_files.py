"""Steps of the file interface that a random walk seldom takes."""

import errno

import pytest

import kvfs
from kvfs.records import Attrs
from kvfs.store.files import Owner

OWNER = Owner(0, 0, 0o644)
ROOT = 1


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


def skip_a_number(store):
    """Make a file that the log never hears of, so that its number is left out."""
    store.files.create(ROOT, b"passing", OWNER)
    store.files.unlink(ROOT, b"passing")


def written(store, name, content):
    node = store.files.create(ROOT, name, OWNER)
    store.files.content.write(node, 0, content)
    return node


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_rename_below_a_value_after_a_number_was_left_out(path, form):
    with kvfs.open(path, format=form) as store:
        store.put("x", "1")
        store.put("a", "2")
        skip_a_number(store)
        store.rename("x", "a/b")
        expected = [(b"a", b"2"), (b"a/b", b"1")]
        assert list(store.items()) == expected
    with kvfs.open(path) as store:
        assert list(store.items()) == expected


@pytest.mark.parametrize("size", range(430, 470))
def test_a_value_of_any_size_fits_after_a_number_was_left_out(path, size):
    with kvfs.open(path, max_segment_size=512) as store:
        skip_a_number(store)
        store.put("k", bytes(size))
        ino = store._core.table.find(b"k").ino
    with kvfs.open(path) as store:
        assert store.get("k") == bytes(size)
        assert store._core.table.find(b"k").ino == ino


@pytest.mark.parametrize("size", [1, 128 * 1024, 128 * 1024 + 1, 300_000])
def test_a_time_that_is_set_before_the_close_stays(path, size):
    """As by `cp -p`; a value that takes several records is no exception."""
    with kvfs.open(path) as store:
        files = store.files
        for time in (5, 6):  # a new file, and one that is written anew
            node = store.table.find(b"k")
            if node is None:
                node = written(store, b"k", bytes(size))
            else:
                files.content.truncate(node, 0)
                files.content.write(node, 0, bytes(size))
            files.setattr(node, Attrs(mtime=time))
            files.content.commit(node)
            assert files.stat(store.table.find(b"k")).mtime == time
            store.sync()
            with kvfs.open(path, read_only=True) as beside:
                assert beside.files.stat(beside.table.find(b"k")).mtime == time


@pytest.mark.parametrize("size", range(430, 470))
def test_a_new_file_of_any_size_fits_after_a_number_was_left_out(path, size):
    with kvfs.open(path, max_segment_size=512) as store:
        skip_a_number(store)
        store.files.content.commit(written(store, b"k", bytes(size)))
    with kvfs.open(path) as store:
        assert store.get("k") == bytes(size)


def test_a_file_that_was_never_logged_costs_no_log(path, segments):
    with kvfs.open(path) as store:
        node = written(store, b"a", b"data")
        store.files.content.write(node, 2, b"more")
        store.files.unlink(ROOT, b"a")
        store.files.content.commit_all()
        assert segments(path) == []


def test_a_rewrite_is_one_record(path, segments):
    with kvfs.open(path, format="text") as store:
        store.put("a", "old")
        node = store.files.file(store.files.lookup(ROOT, b"a").ino)
        store.files.content.truncate(node, 0)
        store.files.content.write(node, 0, b"new ")
        store.files.content.write(node, 4, b"value")
        assert segments(path) == [b"P|a|old\n"]
        assert store.get("a") == b"new value"
        store.files.content.commit(node)
        assert segments(path) == [b"P|a|old\nP|a|new value\n"]


def test_a_full_disk_at_unlink_keeps_what_was_written(path, faulty):
    with kvfs.open(path, disk=faulty) as store:
        store.put("a", "old")
        node = store.files.file(store.files.lookup(ROOT, b"a").ino)
        store.files.content.truncate(node, 0)
        store.files.content.write(node, 0, b"new")
        faulty.fail("write", errno.ENOSPC)
        with pytest.raises(kvfs.NoSpaceError):
            store.files.unlink(ROOT, b"a")
        assert store.get("a") == b"new"
        faulty.heal()
    with kvfs.open(path) as store:
        assert store.get("a") == b"new"


@pytest.mark.parametrize(
    "move",
    [
        lambda store: store.rename("x", "a"),
        lambda store: store.files.rename((ROOT, b"x"), (ROOT, b"a"), 0),
    ],
)
def test_a_full_disk_at_rename_keeps_what_was_written_to_the_target(path, faulty, move):
    with kvfs.open(path, disk=faulty) as store:
        store.put("x", "1")
        written(store, b"a", b"new")
        faulty.fail("write", errno.ENOSPC)
        with pytest.raises(kvfs.NoSpaceError):
            move(store)
        assert store.get("a") == b"new"
        faulty.heal()
    with kvfs.open(path) as store:
        assert list(store.items()) == [(b"a", b"new"), (b"x", b"1")]


def test_a_full_disk_at_commit_keeps_what_was_written(path, faulty):
    with kvfs.open(path, disk=faulty, max_segment_size=512) as store:
        node = written(store, b"a", b"x" * 2000)
        for after in range(4):
            faulty.fail("write", errno.ENOSPC, after=after)
            with pytest.raises(kvfs.NoSpaceError):
                store.files.content.commit(node)
            assert store.get("a") == b"x" * 2000
        faulty.heal()
        store.files.content.commit(node)
    with kvfs.open(path) as store:
        assert store.get("a") == b"x" * 2000


def test_times_set_on_a_directory_outlast_the_commit_of_a_file_in_it(path):
    with kvfs.open(path) as store:
        now = store._core.now() + 10**9
        store._core.now = lambda: now
        node = written(store, b"a", b"data")
        root = store.files.directory(ROOT)
        store.files.setattr(root, Attrs(mtime=5))
        store.files.content.commit(node)
        before = store.files.stat(root)
        assert before.mtime == 5
    with kvfs.open(path) as store:
        assert store.files.stat(store.files.directory(ROOT)) == before


def test_exchange_of_a_file_and_a_directory_with_a_value_loses_nothing(path):
    with kvfs.open(path) as store:
        for key in ("d", "d/a", "f"):
            store.put(key, key)
        try:
            store.files.rename((ROOT, b"d"), (ROOT, b"f"), 2)
        except kvfs.KvfsError as error:
            assert not isinstance(error, kvfs.CorruptionError)  # noqa: PT017 - a refusal is allowed
        before = list(store.items())
        assert sorted(value for _, value in before) == [b"d", b"d/a", b"f"]
        assert len(store) == len(before) == len(dict(before))
    with kvfs.open(path) as store:
        assert list(store.items()) == before


def test_an_unlinked_file_lives_until_its_last_close(path):
    with kvfs.open(path) as store:
        store.put("a", "logged")
        node = store.files.file(store.files.lookup(ROOT, b"a").ino)
        store.files.opened(node.ino)
        store.files.unlink(ROOT, b"a")
        store.files.content.write(node, 6, b" and more")
        assert store.files.content.read(node, 0, 99) == b"logged and more"
        assert store.files.stat(node).nlink == 0
        store.files.closed(node.ino)
        with pytest.raises(kvfs.KvfsError) as caught:
            store.files.node(node.ino)
        assert caught.value.errno == errno.ENOENT
    with kvfs.open(path) as store:
        assert len(store) == 0


def test_the_time_of_a_directory_is_that_of_its_last_name(path):
    """Also if the directory is changed otherwise before the name is logged."""
    with kvfs.open(path) as store:
        files = store.files
        directory = files.mkdir(ROOT, b"d", OWNER._replace(mode=0o755))
        node = files.create(directory.ino, b"f", OWNER)
        files.setattr(directory, Attrs(mode=0o700))
        files.setxattr(directory, b"user.a", b"1")
        files.content.commit(node)
        expected = files.stat(directory)
    with kvfs.open(path) as store:
        assert store.files.stat(store.files.node(expected.ino)) == expected
