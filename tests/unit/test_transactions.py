"""Transactions: all or nothing, first come first served, and never a log that does not apply."""

import errno
import os
import random
import stat

import pytest

import kvfs
from kvfs.disk import Disk
from kvfs.errors import ConflictError, KvfsError, NoSpaceError, PosixError
from kvfs.records import Attrs
from kvfs.retention import NOTHING
from kvfs.store import staged
from kvfs.store.files import RENAME_EXCHANGE, Owner
from kvfs.store.ground import Ground, Grounds
from kvfs.table import Directory, File, Symlink
from kvfs.table.node import FIRST_PIECE

ME = Owner(0, 0, 0o644)
ROOT = 1
NAMES = [b"a", b"b", b"d", b"e", b"f"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    with kvfs.open(path, max_segment_size=1 << 20) as opened:
        yield opened


def begin(store, ground=None):
    transaction = store.transaction()
    transaction.begin(staged.StagedStore(ground or Ground(Disk(), store.path)))
    return transaction, transaction.staged


def finish(transaction):
    transaction.end()
    transaction.staged.close()
    transaction.staged.staged.ground.close()


def write(files, path, value):
    """Put `value` as a program does that truncates the file at `path`, a list of names."""
    parent = directory(files, path[:-1])
    node = files.lookup(parent, path[-1])
    if node is None:
        node = files.create(parent, path[-1], ME)
    else:
        node = files.file(node.ino)
        files.content.truncate(node, 0)
    files.content.write(node, 0, value)
    files.content.commit(node)
    return node


def directory(files, path):
    ino = ROOT
    for name in path:
        node = files.lookup(ino, name)
        if node is None:
            raise PosixError(errno.ENOENT)
        ino = files.directory(node.ino).ino
    return ino


def tree(store):
    """Return all that can be seen: path to (kind, mode, content, xattrs); not numbers and times."""
    files, shown = store.files, {}
    todo = [((), files.directory(ROOT))]
    while todo:
        path, above = todo.pop()
        for name, ino in above.entries.items():
            node = files.node(ino)
            below = (*path, name)
            content = node.target if isinstance(node, Symlink) else None
            if isinstance(node, File):
                # What others do to it by another name shows here as well.
                content = files.content.value(node) if node.nlink == 1 else node.nlink
            elif isinstance(node, Directory):
                todo.append((below, node))
            shown[below] = (
                stat.S_IFMT(node.mode),
                node.mode,
                content,
                dict(node.xattrs or {}),
            )
    return shown | {("key", key): store.get(key) for key in store}


def described(store):
    """Return the attributes of every node but what is only in memory: the directories for long keys.

    Not the times of directories, which those also have from names that were never logged.
    """
    found = {ino: store.files.stat_of(ino) for ino in store.table.nodes if ino < FIRST_PIECE}
    return {
        ino: stat_._replace(atime=0, mtime=0, ctime=0) if stat.S_ISDIR(stat_.mode) else stat_
        for ino, stat_ in found.items()
    }


def test_nothing_is_seen_before_and_all_of_it_after(store, path):
    store.update({"a": "1", "d/x": "old"})
    transaction, inside = begin(store)
    files = inside.files
    assert inside["a"] == b"1"
    write(files, [b"a"], b"2")
    write(files, [b"new"], b"x" * 300_000)
    files.unlink(directory(files, [b"d"]), b"x")
    files.mkdir(ROOT, b"e", Owner(0, 0, 0o700))
    files.symlink(ROOT, b"link", b"a", ME)
    files.rename((ROOT, b"new"), (directory(files, [b"e"]), b"moved"), 0)
    files.setxattr(files.lookup(ROOT, b"a"), b"user.x", b"1")
    assert inside["e/moved"] == b"x" * 300_000
    assert dict(store.items()) == {b"a": b"1", b"d/x": b"old"}
    wanted = tree(inside)
    store.put("other", "1")  # no conflict
    store.files.expire(1)
    transaction.commit()
    finish(transaction)
    del wanted[("key", b"a")]
    found = tree(store)
    assert found.pop((b"other",))[2] == b"1"
    found.pop(("key", b"other"))
    found.pop(("key", b"a"))
    assert found == wanted
    final = tree(store)
    store.close()
    with kvfs.open(path) as again:
        assert tree(again) == final


def test_what_is_forgotten_leaves_no_trace(store):
    store.put("a", "1")
    records = store.position
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"2")
    finish(transaction)
    assert store.position == records
    assert store["a"] == b"1"
    assert not store._core.witnesses


def test_who_comes_second_is_refused_and_nothing_happens(store):
    store.update({"a": "1", "b": "1"})
    first, one = begin(store)
    second, two = begin(store)
    write(one.files, [b"a"], b"first")
    write(two.files, [b"b"], b"second")
    write(two.files, [b"a"], b"second")
    first.commit()
    records = store.position
    with pytest.raises(ConflictError, match="'a' was changed by another"):
        second.commit()
    assert store.position == records
    assert dict(store.items()) == {b"a": b"first", b"b": b"1"}
    finish(first)
    finish(second)


def test_a_file_that_is_being_written_is_a_conflict(store):
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"1")
    node = store.files.create(ROOT, b"a", ME)
    with pytest.raises(ConflictError):
        transaction.commit()
    store.files.content.commit(node)
    with pytest.raises(ConflictError):
        transaction.commit()
    finish(transaction)


def test_reading_is_no_conflict(store):
    store.put("a", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"2")
    store.files.access_times.note(store._core.table.find(b"a"))
    store.files.access_times.commit()
    transaction.commit()
    finish(transaction)
    assert store["a"] == b"2"


def test_conditions_are_checked_at_the_commit(store):
    store.put("a", "1")
    seen = store.version("a")
    store.put("a", "2")
    for condition, refused in ((seen, True), ("", True), (store.version("a"), False)):
        transaction, inside = begin(store)
        node = write(inside.files, [b"a"], b"3")
        inside.files.setxattr(node, b"user.kvfs.if-version", condition.encode())
        if refused:
            with pytest.raises(ConflictError):
                transaction.commit()
        else:
            transaction.commit()
        finish(transaction)
    assert store["a"] == b"3"


def test_a_full_disk_leaves_the_transaction_to_be_tried_again(store, monkeypatch):
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"1")

    def refuse(*_args, **_kwargs):
        raise NoSpaceError

    with monkeypatch.context() as patch:
        patch.setattr(store._core.log, "append_one", refuse)
        with pytest.raises(NoSpaceError):
            transaction.commit()
    assert "a" not in store
    transaction.commit()
    finish(transaction)
    assert store["a"] == b"1"


def test_a_transaction_takes_so_many_bytes(store, monkeypatch):
    monkeypatch.setattr(staged, "MOST", 1000)
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"x" * 900)
    with pytest.raises(NoSpaceError, match="no room for more than 1000 bytes"):
        write(inside.files, [b"b"], b"x" * 200)
    finish(transaction)


def test_a_text_store_has_none(tmp_path):
    with kvfs.open(tmp_path / "text", format="text") as store:
        with pytest.raises(KvfsError) as refused:
            store.transaction()
        assert refused.value.errno == errno.EOPNOTSUPP


def test_numbers_are_never_given_twice(store, path):
    transaction, inside = begin(store)
    for number in range(5):
        inside.files.mkdir(ROOT, b"d%d" % number, ME)
        write(inside.files, [b"d%d" % number, b"x"], b"1")
    kept = store.files.create(ROOT, b"open", ME)  # the log does not know it yet
    store.put("live", "1")
    transaction.commit()
    finish(transaction)
    store.files.content.commit(kept)
    store.put("after/wards", "1")
    numbers = sorted(store._core.table.nodes)
    assert len(numbers) == len(set(numbers))
    versions = {key: store.version(key) for key in store}
    store.close()
    with kvfs.open(path) as again:
        assert sorted(again._core.table.nodes) == numbers
        assert {key: again.version(key) for key in again} == versions


CLASHES = {
    "put below, directory renamed": (
        lambda files: write(files, [b"d", b"new"], b"1"),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
    ),
    "put below, directory exchanged": (
        lambda files: write(files, [b"d", b"new"], b"1"),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"e"), RENAME_EXCHANGE),
    ),
    "put below, directory removed": (
        lambda files: write(files, [b"e", b"new"], b"1"),
        lambda files: files.rmdir(ROOT, b"e"),
    ),
    "mode below, directory renamed": (
        lambda files: files.setattr(
            files.lookup(directory(files, [b"d"]), b"x"), Attrs(mode=0o600)
        ),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
    ),
    "directory renamed, put below": (
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
        lambda files: write(files, [b"d", b"new"], b"1"),
    ),
    "renamed over an empty directory, put into it": (
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"e"), 0),
        lambda files: write(files, [b"e", b"new"], b"1"),
    ),
    "directory removed, put below": (
        lambda files: files.rmdir(ROOT, b"e"),
        lambda files: write(files, [b"e", b"new"], b"1"),
    ),
    "mode of a directory, removed": (
        lambda files: files.setattr(files.lookup(ROOT, b"e"), Attrs(mode=0o700)),
        lambda files: files.rmdir(ROOT, b"e"),
    ),
    "directory made, value put there": (
        lambda files: files.mkdir(ROOT, b"n", ME),
        lambda files: write(files, [b"n"], b"1"),
    ),
    "value put, directory made there": (
        lambda files: write(files, [b"n"], b"1"),
        lambda files: files.mkdir(ROOT, b"n", ME),
    ),
    "renamed, the target put": (
        lambda files: files.rename((ROOT, b"a"), (ROOT, b"n"), 0),
        lambda files: write(files, [b"n"], b"1"),
    ),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_what_does_not_go_together_is_refused(store, clash):
    files = store.files
    for name in (b"d", b"e"):
        files.mkdir(ROOT, name, Owner(0, 0, 0o755))
    write(files, [b"d", b"x"], b"1")
    write(files, [b"a"], b"1")
    mine, theirs = CLASHES[clash]
    transaction, inside = begin(store)
    mine(inside.files)
    theirs(files)
    before = tree(store)
    with pytest.raises(ConflictError):
        transaction.commit()
    assert tree(store) == before
    finish(transaction)


def test_both_may_make_names_in_a_directory_that_only_keys_imply(store):
    store.put("d/x", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"d", b"mine"], b"1")
    write(store.files, [b"d", b"theirs"], b"1")
    store.delete("d/x")
    transaction.commit()
    finish(transaction)
    assert list(store) == [b"d/mine", b"d/theirs"]


def test_a_directory_that_somebody_makes_a_file_in_is_not_removed(store, path):
    for name in (b"d", b"e"):
        store.files.mkdir(ROOT, name, Owner(0, 0, 0o755))
    first, one = begin(store)
    one.files.rmdir(ROOT, b"d")
    second, two = begin(store)
    two.files.rename((ROOT, b"e"), (ROOT, b"d"), 0)
    node = store.files.create(directory(store.files, [b"d"]), b"new", ME)  # not logged yet
    for transaction in (first, second):
        with pytest.raises(ConflictError, match="'d/new'"):
            transaction.commit()
        finish(transaction)
    store.files.content.commit(node)
    store.close()
    with kvfs.open(path) as again:
        assert again["d/new"] == b""


def test_a_directory_that_went_with_its_last_key_is_made_again(store, path):
    store.put("d/e/x", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"d", b"e", b"y"], b"1")
    store.delete("d/e/x")
    kept = store.files.create(ROOT, b"open", ME)  # has a number, of which the log does not know
    transaction.commit()
    finish(transaction)
    store.files.content.commit(kept)
    numbers = sorted(store.table.nodes)
    versions = {key: store.version(key) for key in store}
    store.close()
    with kvfs.open(path) as again:
        assert sorted(again.table.nodes) == numbers
        assert {key: again.version(key) for key in again} == versions


def test_a_file_in_a_directory_that_is_renamed_has_another_version(store):
    for number in range(20):
        name = b"d%d" % number
        for _ in range(50):  # within one tick of the clock, ahead of which its time gets
            store.put(name + b"/x", "1")
        seen = store.version(name + b"/x")
        transaction, inside = begin(store)
        inside.files.rename((ROOT, name), (ROOT, b"moved"), 0)
        write(inside.files, [b"moved", b"x"], b"2")
        transaction.commit()
        finish(transaction)
        assert store.version(b"moved/x") != seen
        store.delete(b"moved/x")


def test_the_root_is_always_there(store):
    transaction, inside = begin(store)
    inside.files.setattr(inside.files.directory(ROOT), Attrs(mode=0o700))
    store.put("a", "1")
    transaction.commit()
    finish(transaction)


# -- what they stand on -------------------------------------------------------------------


def test_a_ground_is_brought_forward_and_not_opened_again(store):
    store.put("a", "1")
    grounds = Grounds(Disk(), store.path)
    first = grounds.take()
    grounds.release(first)
    store.put("a", "2")
    store.put("b", b"x" * 2_000_000)  # in segments that were not there before
    second = grounds.take()
    assert second is first
    inside = staged.StagedStore(second)
    assert inside["a"] == b"2"
    assert inside["b"] == b"x" * 2_000_000
    other = grounds.take()  # somebody stands on the first
    assert other is not first
    grounds.release(other)
    grounds.release(second)
    assert other.closed  # one is kept
    grounds.close()
    assert second.closed


@pytest.mark.parametrize("between", [0, 3_000_000])
def test_a_ground_that_nobody_stands_on_keeps_no_segments(store, path, between):
    store.put("kept", b"k" * 200_000)
    store.put("a", b"x" * 3_000_000)
    grounds = Grounds(Disk(), store.path)
    ground = grounds.take()
    before = set(os.listdir(path / "segments"))
    store.put("a", b"y" * between)
    store.put("a", "now")
    assert store.compact(NOTHING) is not None  # somebody stands on it
    grounds.release(ground)
    assert store.compact(NOTHING) is None
    assert before - set(os.listdir(path / "segments"))
    ground = grounds.take()
    inside = staged.StagedStore(ground)
    assert inside["a"] == b"now"
    assert inside["kept"] == b"k" * 200_000
    assert inside.position == store.position
    grounds.release(ground)
    grounds.close()


def test_a_ground_that_nobody_needs_is_closed(store, monkeypatch):
    grounds = Grounds(Disk(), store.path)
    ground = grounds.take()
    grounds.release(ground)
    grounds.tidy()
    assert not ground.closed
    monkeypatch.setattr("kvfs.store.ground.IDLE", -1.0)
    grounds.tidy()
    assert ground.closed
    ground = grounds.take()
    grounds.close()
    assert not ground.closed
    grounds.release(ground)
    assert ground.closed


def test_a_ground_that_cannot_be_brought_forward_is_given_up(store, path):
    grounds = Grounds(Disk(), store.path)
    grounds.release(grounds.take())
    store.put("a", b"x" * 1000)
    store.put("b", "1")
    segment = path / "segments" / "00000001.seg"
    sound = segment.read_bytes()
    segment.write_bytes(sound.replace(b"x" * 1000, b"y" * 1000))
    with pytest.raises(kvfs.CorruptionError):
        grounds.take()
    segment.write_bytes(sound)
    ground = grounds.take()
    assert staged.StagedStore(ground)["b"] == b"1"
    grounds.release(ground)
    grounds.close()


# -- random ones --------------------------------------------------------------------------


def random_path(rng):
    return [rng.choice(NAMES) for _ in range(rng.choice((1, 1, 2, 2, 3)))]


def step(files, store, rng):
    """Do something, if it can be done."""
    path, other = random_path(rng), random_path(rng)
    parent = directory(files, path[:-1])
    what = rng.randrange(13)
    if what < 4:
        write(files, path, rng.randbytes(rng.choice((0, 3, 50))))
    elif what == 4:
        files.unlink(parent, path[-1])
    elif what == 5:
        files.rmdir(parent, path[-1])
    elif what == 6:
        files.mkdir(parent, path[-1], Owner(0, 0, 0o755))
    elif what == 7:
        files.rename((parent, path[-1]), (directory(files, other[:-1]), other[-1]), 0)
    elif what == 8:
        target = directory(files, other[:-1]), other[-1]
        files.rename((parent, path[-1]), target, RENAME_EXCHANGE)
    elif what == 9:
        node = files.lookup(parent, path[-1])
        if node is not None:
            files.setattr(node, Attrs(mode=rng.choice((0o600, 0o640, 0o755))))
    elif what == 10:
        node = files.lookup(parent, path[-1])
        if isinstance(node, File):
            files.content.write(node, files.content.size(node), b"more")
            files.content.commit(node)
    elif what == 11:
        node = files.lookup(parent, path[-1])
        if isinstance(node, File):
            files.link(node, directory(files, other[:-1]), other[-1])
    else:
        files.symlink(parent, path[-1], b"there", ME)
    if hasattr(store, "put") and rng.random() < 0.2:
        key = b"/".join(random_path(rng))
        if rng.random() < 0.6:
            store.put(key, b"by key")
        else:
            store.delete(key)


def begin_file(files, rng):
    """Make a file, or go on with one, and let the log know nothing of it."""
    path = random_path(rng)
    parent = directory(files, path[:-1])
    node = files.lookup(parent, path[-1])
    if node is None:
        node = files.create(parent, path[-1], ME)
    if isinstance(node, File):
        files.content.write(node, 0, b"begun")


def steps(store, rng, count):
    for _ in range(count):
        try:
            if not isinstance(store, staged.StagedStore) and rng.random() < 0.2:
                begin_file(store.files, rng)
            step(store.files, None if isinstance(store, staged.StagedStore) else store, rng)
        except KvfsError:
            continue


@pytest.mark.parametrize("seed", range(int(os.environ.get("KVFS_TRANSACTIONS", "60"))))
def test_random_transactions_beside_a_store_that_changes(path, seed):
    rng = random.Random(seed)
    store = kvfs.open(path, max_segment_size=1 << 16)
    grounds = Grounds(Disk(), store.path)
    done = refused = 0
    steps(store, rng, 30)
    for _ in range(12):
        transaction, inside = begin(store, grounds.take())
        before = tree(inside)
        with kvfs.open(path, read_only=True) as fresh:
            assert tree(fresh) == before
            assert fresh._core.table.state() == inside.staged.table.state()
        steps(inside, rng, rng.randrange(1, 6))
        staged_tree = tree(inside)
        steps(store, rng, rng.choice((0, 0, 1, 2, 5)))
        live = tree(store)
        try:
            transaction.commit()
        except ConflictError:
            refused += 1
            assert tree(store) == live
        else:
            done += 1
            found = tree(store)
            if live == before:  # nobody else did anything
                assert found == staged_tree
            for place in staged_tree.keys() | before.keys():
                # Where only the transaction did something, it is as that left it.
                mine = staged_tree.get(place) != before.get(place)
                theirs = live.get(place) != before.get(place)
                linked = any(
                    isinstance(at.get(place, (0, 0, 0))[2], int)
                    for at in (staged_tree, before)
                    if place[0] != "key"
                )
                if mine and not theirs and place[0] != "key" and not linked:
                    assert found.get(place) == staged_tree.get(place), place
        transaction.end()
        inside.close()
        grounds.release(inside.staged.ground)
        assert not store._core.log.failed
    grounds.close()
    store.sync()
    final, numbers = tree(store), described(store)
    store.close()
    with kvfs.open(path) as again:
        assert tree(again) == final
        assert described(again) == numbers
    assert done
