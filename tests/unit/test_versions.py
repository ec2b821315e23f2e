"""Every value that a key has had: held against the store as it was after each record."""

import os
import random
from contextlib import suppress

import pytest
from histories import DIRECTORIES, KEYS, History, logged, opened

import kvfs
from kvfs.errors import PastGoneError
from kvfs.records import Attrs, Delete, Link, Mkdir, Put, Rename, Setattr, Truncate, Write
from kvfs.retention import Retention
from kvfs.store.history import changes
from kvfs.store.versions import are_kept, versions
from kvfs.table import File

TIME = 10**18
INO = 1 << 61


def texts(path, key):
    """Return the text of each version of `key` that is kept, by its sequence number."""
    seen = versions(path, key)
    with kvfs.open(path, read_only=True) as store:
        found = {}
        for sequence, version in seen.found.items():
            if not are_kept(path, seen.extents(sequence)):
                continue
            file = File(INO, version.mode, version.uid, version.gid)
            file.extents, file.length = seen.extents(sequence), version.size
            found[sequence] = store.files.content.value(file)
    return found


def of(tmp_path, records):
    numbered = [record._replace(time=TIME + number) for number, record in enumerate(records)]
    logged(tmp_path / "store", numbered)
    return str(tmp_path / "store")


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("seed", range(12))
def test_every_version_is_what_the_store_had_then(tmp_path, seed, form):
    history = History(tmp_path / "store", seed, form)
    path = str(history.path)
    states = {}
    for change, _ in zip(changes(path), history.records, strict=True):
        with kvfs.open(path, at=change.sequence) as store:
            if store.position == change.sequence + 1:  # the last of its batch
                states[change.sequence] = dict(store.items())
    for key in set(KEYS):
        found = texts(path, key)
        value = None
        for sequence, state in states.items():
            now = state.get(key)
            if now is not None and now != value:
                assert sequence in found, (key, sequence)
            if sequence in found:
                assert found[sequence] == now
            value = now
        assert found.keys() <= states.keys()


@pytest.mark.parametrize("seed", range(8))
def test_every_name_that_ever_was_is_listed(tmp_path, seed):
    path = str(History(tmp_path / "store", seed).path)
    names = {key: set() for key in [b"", *DIRECTORIES]}
    for change in changes(path):
        with kvfs.open(path, at=change.sequence) as store:
            for key in store.keys():
                for directory, found in names.items():
                    below = directory + b"/" if directory else b""
                    if key.startswith(below) and key != b"..":
                        found.add(key[len(below) :].split(b"/")[0])
    for directory, expected in names.items():
        seen = versions(path, directory)
        assert seen.names >= expected
        assert seen.seen or not expected
        for name in seen.names:
            assert versions(path, directory + b"/" + name if directory else name).seen


def test_what_is_a_version_and_what_is_none(tmp_path):
    path = of(
        tmp_path,
        [
            Put(b"a", b"one"),
            Write(b"a", 3, b" more"),
            Setattr(b"a", Attrs(mode=0o600)),
            Truncate(b"a", 2),
            Put(b"other", b"x"),
            Delete(b"a"),
            Rename(b"other", b"a"),
            Link(b"a", b"b"),
            Write(b"b", 1, b"y"),
            Put(b"a", b"last"),
        ],
    )
    assert texts(path, b"a") == {0: b"one", 1: b"one more", 3: b"on", 6: b"x", 8: b"xy", 9: b"last"}
    assert texts(path, b"b") == {7: b"x", 8: b"xy", 9: b"last"}
    found = versions(path, b"a").found
    assert [found[3].mode & 0o777, found[1].mode & 0o777] == [0o600, 0o644]
    assert found[8].time == TIME + 8
    assert versions(path, b"a").records == 10
    assert versions(path, b"none") == (10, {}, frozenset(), False)


def test_a_directory_that_moves_brings_its_keys(tmp_path):
    moved = Rename(b"d", b"g", directory=True)
    path = of(tmp_path, [Mkdir(b"d"), Put(b"d/x/k", b"1"), moved, Put(b"h", b"2")])
    assert texts(path, b"g/x/k") == {2: b"1"}
    assert texts(path, b"d/x/k") == {1: b"1"}
    assert versions(path, b"g").names == {b"x"}
    assert versions(path, b"g/x").names == {b"k"}
    assert versions(path, b"").names == {b"d", b"g", b"h"}
    assert not versions(path, b"g/none").seen


def test_a_thousand_appends_are_not_a_million_extents(tmp_path):
    path = of(
        tmp_path, [Put(b"a", b"0"), *(Write(b"a", n, b"%d" % (n % 10)) for n in range(1, 500))]
    )
    seen = versions(path, b"a")
    assert sum(len(version.extents) for version in seen.found.values()) == 500
    assert texts(path, b"a")[499] == b"".join(b"%d" % (n % 10) for n in range(500))


def test_a_batch_is_one_version(tmp_path):
    path = str(tmp_path / "store")
    with kvfs.open(path) as store:
        store.put("a", "small")
        store.put("a", os.urandom(3 << 20))
        last = store.position - 1
    assert list(versions(path, b"a").found) == [0, last]
    assert last > 1


def test_a_batch_that_changes_in_place_is_one_version(tmp_path):
    kvfs.init(tmp_path / "store")
    log, _ = opened(tmp_path / "store")
    log.append([Put(b"a", b"------", time=TIME)])
    log.append([Write(b"a", 0, b"1", TIME)] * 2, atomic=True)
    log.append([Write(b"a", 1, b"2", TIME), Write(b"a", 3, b"4", TIME)], atomic=True)
    log.close()
    found = texts(str(tmp_path / "store"), b"a")
    assert found == {0: b"------", 2: b"1-----", 4: b"12-4--"}


@pytest.mark.parametrize("kept", [0, 3000, 20_000])
@pytest.mark.parametrize("seed", range(4))
def test_after_a_compaction_there_is_what_is_kept(tmp_path, seed, kept):
    draw, path = random.Random(seed), str(tmp_path / "store")
    keys = [b"a", b"b", b"c", b"d/a", b"d/b", b"still"]
    with kvfs.open(path, max_segment_size=1024) as store:
        store.put(b"still", b"as ever")
        for _ in range(6):
            for _ in range(30):
                key, value = draw.choice(keys[:-1]), draw.randbytes(draw.choice([0, 9, 300, 2000]))
                if draw.random() < 0.8:
                    store.put(key, value)
                elif draw.random() < 0.5:
                    store.delete(key)
                else:
                    store.rename(key, draw.choice(keys[:-1]))
            assert store.compact(Retention(0, kept)) is None
            now = dict(store.items())
            for key in keys:
                seen, found = versions(path, key), texts(path, key)
                assert seen.records == store.position
                if key in now:
                    assert found[max(seen.found)] == now[key]
                for sequence, text in found.items():
                    with suppress(PastGoneError), kvfs.open(path, at=sequence) as past:
                        assert past.get(key) == text
            assert versions(path, b"").names >= {key.split(b"/")[0] for key in now}
        first = min(versions(path, b"still").found)
    assert first > 0, "the log does not begin with the store any more"
