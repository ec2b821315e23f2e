"""Dumps: records that make the same store anew."""

import os
import shutil

import pytest
from histories import History, opened
from test_compaction import state

import kvfs
from kvfs.disk import Disk
from kvfs.records import Attrs, Link, Mkdir, Mknod, Put, Setattr, Setxattr, Symlink, Truncate, Write
from kvfs.store.dump import Dump, reader
from kvfs.table import audit

FORMS = ["binary", "text"]


def dumped(old, new):
    """Make the store `new` with what the store `old` has."""
    kvfs.init(new, format=old.config.format)
    shutil.copy(f"{old.path}/store.toml", new)
    log, table = opened(new)
    keeps = old.config.codec().keeps_time
    dump = Dump(
        old._core.table,
        reader(Disk(), old.path, old.config),
        lambda: table.next_ino,
        None if keeps else old.config.created,
        60,
    )
    for record in dump.records():
        table.apply(record, log.append([record])[0])
    log.close()
    assert list(audit(table)) == []


def seen(store):
    nodes, values = state(store)
    nodes = {ino: node for ino, node in nodes.items() if ino > 3}  # those that are in every store
    return nodes, values, store._core.table.next_ino


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(12))
def test_a_dump_makes_the_same_store(tmp_path, form, seed):
    path, copy = tmp_path / "store", tmp_path / "copy"
    History(path, seed, form=form, count=120)
    with kvfs.open(path, read_only=True) as store:
        dumped(store, copy)
        with kvfs.open(copy, read_only=True) as other:
            assert seen(other) == seen(store)


TIME = 10**18


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_node(tmp_path, form):
    path, copy = tmp_path / "store", tmp_path / "copy"
    kvfs.init(path, format=form)
    log, table = opened(path)
    records = [
        Put(b"a", b"1"),
        Mkdir(b"d", Attrs(mode=0o750, uid=7)),
        Put(b"d/long", b"x" * 500, Attrs(mtime=5, mode=0o600)),
        Write(b"d/long", 900, b"behind a hole"),
        Truncate(b"d/long", 2000),
        Link(b"d/long", b"other"),
        Link(b"d/long", b"d/e/third"),
        Setxattr(b"a", b"user.n", b"v|1\n"),
        Setxattr(b"d", b"user.n", b"of a directory", directory=True),
        Setxattr(b"", b"user.n", b"of the root", directory=True),
        Symlink(b"s", b"a|b"),
        Mknod(b"p", 0o010640, 0),
        Put(b"d", b"aside"),
        Put(b"..", b"no path"),
        Put(b"k" * 300, b"in pieces"),
        Setattr(b"d", Attrs(mtime=-5, atime=7), directory=True),
        Setattr(b"", Attrs(mode=0o700, mtime=9), directory=True),
        Put(b"gone", b""),
        kvfs.records.Delete(b"gone"),
    ]
    for count, record in enumerate(records):
        record = record._replace(time=TIME + count)  # noqa: PLW2901
        table.apply(record, log.append([record])[0])
    log.close()
    with kvfs.open(path, read_only=True) as store:
        dumped(store, copy)
        with kvfs.open(copy, read_only=True) as other:
            assert seen(other) == seen(store)
            root = [store.files.directory(1) for store in (store, other)]
            assert len({(node.mode, node.mtime, str(node.xattrs)) for node in root}) == 1
    assert os.path.exists(copy)
