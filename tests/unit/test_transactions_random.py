"""Random transactions beside a store that changes; KVFS_TRANSACTIONS says how many seeds."""

import os
import random

import pytest
from staging import ME, begin, described, directory, tree, write

import kvfs
from kvfs.disk import Disk
from kvfs.errors import ConflictError, KvfsError
from kvfs.records import Attrs
from kvfs.store import staged
from kvfs.store.files import RENAME_EXCHANGE, Owner
from kvfs.store.ground import Grounds
from kvfs.table import File

NAMES = [b"a", b"b", b"d", b"e", b"f"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


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
