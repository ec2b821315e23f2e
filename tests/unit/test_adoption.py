"""A table that comes to stand on a newer checkpoint while it is in use: nothing changes by it."""

import random

import pytest
from test_compaction import OWNER, state

import kvfs
from kvfs.retention import Retention
from kvfs.store.opening import open_store
from kvfs.store.verify import check
from kvfs.table import audit

KEYS = [b"a", b"b", b"c", b"d/a", b"d/b", b"e/f/a", b"..", b"k" * 300]


def change(store, draw):
    """Do something to the store; what is refused is refused."""
    files, key, other = store.files, draw.choice(KEYS), draw.choice(KEYS)
    kind = draw.randrange(11)
    if kind < 3:
        store.put(key, draw.randbytes(draw.choice([0, 10, 500])))
    elif kind == 3:
        store.delete(key)
    elif kind == 4:
        store.rename(key, other)
    elif kind == 5 and store._core.table.find(key):
        files.content.write(store._core.table.find(key), draw.randrange(50), b"in place")
    elif kind == 6:
        files.content.commit_all()
    elif kind == 7 and files.lookup(1, b"new") is None:
        files.content.write(files.create(1, b"new", OWNER), 0, b"not logged")
    elif kind == 8 and files.lookup(1, b"new") is not None:
        files.unlink(1, b"new")
    elif kind == 9:
        name = draw.choice([b"x", b"y"])
        (files.mkdir if files.lookup(1, name) is None else lambda p, n, _: files.rmdir(p, n))(
            1, name, OWNER
        )
    elif kind == 10:
        store._core.table.nodes.settle(lambda _ino: False)


@pytest.mark.parametrize("seed", range(25))
def test_nothing_changes(tmp_path, seed):
    draw = random.Random(seed)
    path = tmp_path / "store"
    store = open_store(path, max_segment_size=1024, checkpoint_every=draw.choice([1, None]))
    core = store._core
    for _ in range(8):
        for _ in range(draw.randrange(30)):
            change(store, draw)
        core.table.nodes._most_awake = draw.choice([0, 4096])
        core.table.nodes.track()
        core.log.sync()
        until = core.log.stable
        for _ in range(draw.randrange(20)):  # while it is made
            change(store, draw)
        kept = core.checkpoints.make(until, Retention(0, 0))
        for _ in range(draw.randrange(20)):
            change(store, draw)
        before = state(store)
        if kept.newest:
            core.adopt(kept.newest.name)
        assert state(store) == before
        while core.table.nodes.prune(0):
            change(store, draw)
        before = state(store)
        assert list(audit(core.table)) == []
        if draw.random() < 0.2:
            store.files.content.commit_all()
            before = state(store)
            store.compact(Retention(0, 0))
            assert state(store) == before
        if draw.random() < 0.3:
            store.close()
            store = open_store(path)
            core = store._core
    values = dict(store.items())
    store.close()
    with kvfs.open(path, read_only=True) as store:
        assert dict(store.items()) == values
    assert not check(path).damaged


def test_what_a_checkpoint_has_leaves_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("kvfs.store.background._MUCH", 50)
    path = tmp_path / "store"
    with open_store(path, checkpoint_every=10) as store:
        nodes, tick = store._core.table.nodes, store.maintain
        for number in range(200):
            store.put(f"{number}", f"value {number}")
        store.delete("7")
        assert nodes.in_memory > 190
        listing = [True]
        store.background.may_adopt = lambda: not listing
        store.sync()
        while store.checkpointed == 0 and listing:
            tick()
            if store._core.checkpoints.names() and not store.background._process:
                assert nodes.in_memory > 190  # somebody goes through the names
                listing.clear()
                store.put("more", "1")
                for number in range(20):
                    store.put(f"{number}", "changed")
                store.sync()
        while store.background._prunes or not store.checkpointed:
            tick()
        assert nodes.in_memory < 5
        assert len(store._core.table.root.entries.changed) < 5
        assert store.get("8") == b"changed"
        assert store.get("100") == b"value 100"
        assert store.get("7") == b"changed"
        assert len(store) == 201
