"""Compaction: what is dead goes, and nothing else changes, whenever it happens."""

import os
import random
import stat
import threading

import pytest
from histories import History

import kvfs
from kvfs.disk import Disk
from kvfs.errors import ConfigError, CorruptionError, PastGoneError, StoreLockedError
from kvfs.records import Attrs, Relocate
from kvfs.retention import Retention
from kvfs.store import snapshots
from kvfs.store.compaction import Fold, Mover, fold, remove_segments
from kvfs.store.files import Owner
from kvfs.store.history import changes
from kvfs.store.keeping import Policy
from kvfs.store.opening import open_store, read_config
from kvfs.store.readers import held
from kvfs.store.repair import repair
from kvfs.store.rewrite import compact_text
from kvfs.store.verify import check
from kvfs.table import Directory, File, Symlink

NOTHING = Retention(0, 0)
OWNER = Owner(0, 0, 0o644)


def state(store):
    """Return all that users can see of a store."""
    table = store._core.table
    seen = {}
    for ino in table.nodes:
        node = table.nodes.look(ino)
        content = None
        if isinstance(node, File):
            content = store.files.content.value(node)
        elif isinstance(node, Symlink):
            content = node.target
        elif isinstance(node, Directory):
            content = sorted(node.entries.items())
        seen[ino] = (
            *(node.mode, node.uid, node.gid, node.atime, node.mtime, node.ctime, node.nlink),
            *(sorted(node.names()), node.xattrs, content),
        )
    return seen, dict(store.items())


def segments(path):
    return sorted(name for name in os.listdir(path / "segments"))


def small(path, **options):
    return open_store(path, max_segment_size=1024, **options)


def overwrite(store, turns=40):
    for turn in range(turns):
        for key in "abc":
            store.put(key, f"{key} {turn} " + "x" * 60)


@pytest.mark.parametrize("seed", range(8))
def test_a_store_is_the_same_compacted(tmp_path, seed):
    path = tmp_path / "store"
    History(path, seed, count=120)
    with kvfs.open(path) as store:
        before = state(store)
        size = len(segments(path))
        assert store.compact(NOTHING) is None
        assert state(store) == before
    assert len(segments(path)) < size
    assert not check(path).damaged
    with kvfs.open(path, read_only=True) as store:
        assert state(store) == before
    with kvfs.open(path) as store:  # again, with nothing to do
        assert store.compact(NOTHING) is None
        assert state(store) == before


@pytest.mark.parametrize("seed", range(6))
def test_it_goes_on_as_if_there_had_been_none(tmp_path, seed):
    draw = random.Random(seed)
    keys = [f"k{number}" for number in range(12)] + ["d/a", "d/b", ".."]
    model = {}
    path = tmp_path / "store"
    store = small(path)
    for _ in range(600):
        key, kind = draw.choice(keys), draw.random()
        if kind < 0.6:
            value = draw.randbytes(draw.choice([0, 5, 100, 700, 3000]))
            store.put(key, value)
            model[key.encode()] = value
        elif kind < 0.75:
            assert store.delete(key) is (model.pop(key.encode(), None) is not None)
        elif kind < 0.85:
            other = draw.choice(keys)
            if store.rename(key, other) and key != other:
                model[other.encode()] = model.pop(key.encode())
        elif kind < 0.9:
            store.close()
            store = small(path)
        elif kind < 0.95:
            assert store.compact(draw.choice([NOTHING, Retention(None, 3000)])) is None
        assert dict(store.items()) == model
    store.close()
    assert not check(path).damaged
    with kvfs.open(path, read_only=True) as store:
        assert dict(store.items()) == model


def test_what_was_deleted_stays_so_while_an_older_value_is_kept(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        store.put("gone", "here it is")
        overwrite(store, 5)
        snapshots.create(path, "before")  # keeps the segment with the value
        store.delete("gone")
        overwrite(store)
        assert store.compact(NOTHING) is None
        overwrite(store, 3)
        assert store.compact(NOTHING) is None  # the record that deleted it is gone by now
        assert store.get("gone") is None
    assert "00000001.seg" in segments(path)
    with kvfs.open(path) as store:
        assert store.get("gone") is None
    with open_store(path, at="before") as past:
        assert past.get("gone") == b"here it is"


def mover_of(store):
    """Return who moves what is alive in all but the last segment."""
    core = store._core
    core.log.roll()
    found = fold(core.checkpoints, core.log.stable, Policy(0, 0), NOTHING)
    return Mover(core, found)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_changed_while_it_is_moved(tmp_path, seed, monkeypatch):
    monkeypatch.setattr("kvfs.store.compaction._AT_ONCE", 1)
    draw = random.Random(seed)
    path = tmp_path / "store"
    with small(path) as store:
        model = {}
        for number in range(200):
            key = f"k{number % 40}"
            model[key.encode()] = value = draw.randbytes(draw.choice([10, 200, 900, 2500]))
            store.put(key, value)
        mover = mover_of(store)
        assert mover.total > 10
        while mover.step(0):
            key = f"k{draw.randrange(40)}".encode()
            kind = draw.randrange(5)
            if kind == 0:
                store.put(key, b"new")
                model[key] = b"new"
            elif kind == 1:
                store.delete(key)
                model.pop(key, None)
            elif kind == 2 and store.rename(key, b"d/" + key):
                model[b"d/" + key] = model.pop(key)
            elif kind == 3 and key in model:
                node = store._core.table.find(key)
                store.files.content.write(node, 5, b"in place")
                store.files.content.commit(node)
                old = model[key].ljust(5, b"\0")
                model[key] = old[:5] + b"in place" + old[13:]
            elif key in model:
                store.files.content.truncate(store._core.table.find(key), 7)
                model[key] = model[key][:7].ljust(7, b"\0")
        assert mover.problem is None
        assert dict(store.items()) == model
        assert store.compact(NOTHING) is None
        assert dict(store.items()) == model
    with kvfs.open(path, read_only=True) as store:
        assert dict(store.items()) == model
    assert not check(path).damaged


def test_what_is_not_logged_yet_is_there_after_it(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        files = store.files
        new = files.create(1, b"new", OWNER)
        files.content.write(new, 0, b"not yet")
        old = files.lookup(1, b"a")
        files.content.truncate(old, 0)
        files.content.write(old, 0, b"another")
        mover = mover_of(store)
        while mover.step(0):
            pass
        files.content.commit_all()
        assert store.get("new") == b"not yet"
        assert store.get("a") == b"another"
    with kvfs.open(path, read_only=True) as store:
        assert (store.get("new"), store.get("a")) == (b"not yet", b"another")


def test_a_file_without_a_name_keeps_its_segments(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        store.put("f", "x" * 600)
        node = store.files.lookup(1, b"f")
        store.files.opened(node.ino)
        store.files.unlink(1, b"f")
        overwrite(store)
        demand = store.background.demand(NOTHING)
        while not demand.finished.wait(store.background.tick() / 100):
            pass
        assert demand.problem is None
        assert segments(path)[0] == "00000001.seg"
        assert store.files.content.value(node) == b"x" * 600
        store.files.closed(node.ino)
        store.background.tick()
        assert "00000001.seg" not in segments(path)


def test_who_reads_keeps_the_segments(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        expected = dict(store.items())
        with kvfs.open(path, read_only=True) as reader:
            problem = store.compact(NOTHING)
            assert "somebody reads" in problem
            assert dict(reader.items()) == expected
            assert "00000001.seg" in segments(path)
        assert store.compact(NOTHING) is None
        assert "00000001.seg" not in segments(path)


def test_who_begins_to_read_waits_while_segments_go(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        going, read = threading.Event(), threading.Event()
        disk = store._core.disk

        class Slow(type(disk)):
            def unlink(self, name):
                going.set()
                assert not read.wait(0.2)
                super().unlink(name)

        def reader():
            assert going.wait(10)
            with held(disk, str(path)):
                read.set()

        thread = threading.Thread(target=reader)
        thread.start()
        assert remove_segments(Slow(), str(path), [99]) == 0
        thread.join()
        assert read.is_set()


def test_history_is_kept_as_far_as_is_said(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        for number in range(100):
            store.put("k", f"{number} " + "x" * 80)
            if number % 10 == 9:
                store.sync()
                store._core.checkpoints.make(store._core.log.stable, Retention(None, 4000))
        assert store.compact(Retention(None, 4000)) is None
    assert len(segments(path)) < 9
    with open_store(path, at=80) as past:
        assert past.get("k").startswith(b"80 ")
    with pytest.raises(PastGoneError, match="not kept any more"):
        open_store(path, at=5)
    numbers = [change.sequence for change in changes(str(path))]
    assert numbers == list(range(numbers[0], 100))
    assert 10 < numbers[0] <= 70
    assert [c.sequence for c in changes(str(path), b"k")] == numbers


def test_what_is_moved_is_no_history(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store, 3)
        store.put("still", "s" * 100)
        overwrite(store)
        position = store.position
        mover = mover_of(store)
        while mover.step(0):
            pass
        assert store.position > position
    assert all(change.what != "relocate" for change in changes(str(path)))
    with open_store(path, at=position - 1) as past, kvfs.open(path, read_only=True) as now:
        assert dict(past.items()) == dict(now.items())


def test_a_snapshot_keeps_what_it_needs_until_it_goes(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        store.compact(NOTHING)
        store.put("only", "then")
        snapshots.create(path, "s")
        then = dict(store.items())
        store.delete("only")
        overwrite(store)
        for _ in range(2):
            assert store.compact(NOTHING) is None
            overwrite(store, 3)
        kept = segments(path)
    with open_store(path, at="s") as past:
        assert dict(past.items()) == then
    snapshots.delete(path, "s")
    with kvfs.open(path) as store:
        assert store.compact(NOTHING) is None
    assert len(segments(path)) < len(kept)
    assert not check(path).damaged


def test_all_history_is_kept_where_the_store_says_so(tmp_path):
    path = tmp_path / "store"
    kvfs.init(path, max_segment_size=1024, keep_history="all")
    with kvfs.open(path) as store:
        overwrite(store)
        before = segments(path)
        assert store.compact() is None
        assert segments(path)[: len(before)] == before
    with open_store(path, at=3) as past:
        assert past.get("a") == b"a 1 " + b"x" * 60


def test_damage_stays_where_it_is_and_is_told(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        store.put("bad", "b" * 300)
        store.put("good", "g" * 300)
        overwrite(store)
    segment = path / "segments" / "00000001.seg"
    with kvfs.open(path) as store:
        data = bytearray(segment.read_bytes())
        data[data.index(b"bbbb")] ^= 1
        segment.write_bytes(data)
        numbers = [store.files.lookup(1, key).ino for key in (b"bad", b"good")]
        mover = Mover(store._core, Fold(None, [], [], [1], 0, 0, 0, [], numbers))
        while mover.step(0):
            pass
        assert "00000001.seg is damaged" in mover.problem
        with pytest.raises(CorruptionError):
            store.get("bad")
        assert store.get("good") == b"g" * 300
        assert store.files.lookup(1, b"good").extents[0].location.segment > 1


def test_a_missing_segment_that_is_needed_is_damage(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        store.put("old", "o" * 300)
        overwrite(store)
        assert store.compact(Retention(0, 0)) is None
    os.unlink(path / "segments" / segments(path)[0])
    with pytest.raises(CorruptionError, match="is missing"):
        kvfs.open(path)


def test_both_checkpoints_are_good_alone(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        assert store.compact(NOTHING) is None
        expected = dict(store.items())
    names = sorted(name for name in os.listdir(path / "checkpoints") if name.endswith(".ckp"))
    assert len(names) == 2
    for name in names:
        file = path / "checkpoints" / name
        data = file.read_bytes()
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with kvfs.open(path, read_only=True) as store:
            assert dict(store.items()) == expected
        file.write_bytes(data)


def test_by_itself_a_store_with_one_hot_key_stays_small(tmp_path):
    path = tmp_path / "store"
    kvfs.init(path, max_segment_size=16 * 1024, keep_history="0")
    policy = Policy(0.4, 64 * 1024)
    with open_store(path, compact=policy) as store:
        store.put("cold", "c" * 1000)
        for number in range(8000):
            store.put("hot", f"{number} " + "x" * 100)
        assert store._keeper is not None
        written = store._core.log.written
        demand = store.background.demand()
        assert demand.finished.wait(60)
        store.put("hot", "last")
        size = sum(os.stat(path / "segments" / name).st_size for name in segments(path))
        assert size < 300 * 1024 < written
    with kvfs.open(path, read_only=True) as store:
        assert dict(store.items()) == {b"cold": b"c" * 1000, b"hot": b"last"}


def test_a_record_that_relocates_must_fit(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        store.put("a", "value")
        with pytest.raises(CorruptionError, match="no such place"):
            store._core.table.apply(Relocate(b"a", 3, b"abc", 5), None)
        with pytest.raises(CorruptionError):
            store._core.table.apply(Relocate(b"b", 0, b"", 5), None)


def test_the_past_goes_with_time(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        kept = store._core.checkpoints.make(store._core.log.stable, Retention(10**18, None))
        assert kept.free == []
        kept = store._core.checkpoints.make(store._core.log.stable, Retention(0, None))
        assert kept.free
        assert remove_segments(store._core.disk, str(path), kept.free) == len(kept.free)
        node = store.files.lookup(1, b"a")
        store.files.setattr(node, Attrs(mode=0o600))
        assert stat.S_IMODE(node.mode) == 0o600
        assert store.get("a").startswith(b"a 39 ")


def broken(path, name, what):
    """Flip a bit where `what` stands in a segment."""
    segment = path / "segments" / name
    data = bytearray(segment.read_bytes())
    data[data.index(what)] ^= 1
    segment.write_bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_a_repair_begins_where_the_log_does(tmp_path, seed):
    path = tmp_path / "store"
    History(path, seed, count=100)
    with kvfs.open(path) as store:
        store.put("early", "EARLY" * 20)
        assert store.compact(NOTHING) is None
        store.put("late", "LATE" * 20)
        store.put("also", "here")
        for number in range(20):
            store.put("filling", f"{number} " + "x" * 80)
        before = state(store)[1]
    name = next(
        name for name in segments(path) if b"LATE" in (path / "segments" / name).read_bytes()
    )
    broken(path, name, b"LATE")
    with pytest.raises(CorruptionError):
        kvfs.open(path)
    done = repair(path)
    assert [lost.key for lost in done.lost] == [b"late"]
    assert not check(path).damaged
    del before[b"late"]
    with kvfs.open(path) as store:
        assert dict(store.items()) == before


def test_a_repair_where_what_was_moved_is_damaged(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        for number in range(30):
            store.put(f"k{number}", f"VALUE{number}-" * 10)
        overwrite(store)
        assert store.compact(NOTHING) is None
        before = dict(store.items())
    for number in (3, 29):
        what = f"VALUE{number}-".encode()
        found = (name for name in segments(path) if what in (path / "segments" / name).read_bytes())
        broken(path, next(found), what)
        del before[f"k{number}".encode()]
    report = check(path)
    assert report.damaged
    done = repair(path)
    assert {lost.key for lost in done.lost if lost.key} == {b"k3", b"k29"}
    assert {fate.key: fate.state for fate in done.fates} == {b"k3": "gone", b"k29": "gone"}
    assert not check(path).damaged
    with kvfs.open(path) as store:
        assert dict(store.items()) == before


def test_damage_before_the_only_checkpoints_is_no_end(tmp_path):
    """What a checkpoint knows the log by is damaged: it is refused, and salvaged."""
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        store.put("last", "LAST" * 30)
        assert store.compact(NOTHING) is None
        before = dict(store.items())
    broken(path, segments(path)[-1], b"LAST")
    with pytest.raises(CorruptionError, match="does not fit the log"):
        kvfs.open(path)
    assert check(path).damaged
    repair(path)
    del before[b"last"]
    with kvfs.open(path) as store:
        assert dict(store.items()) == before
    assert not check(path).damaged


@pytest.mark.parametrize("seed", range(6))
def test_a_text_log_that_makes_the_same_state(tmp_path, seed):
    path = tmp_path / "store"
    History(path, seed, form="text", count=120)
    with kvfs.open(path, read_only=True) as store:
        before, number = state(store), store._core.table.next_ino
    size = sum(os.stat(path / "segments" / name).st_size for name in segments(path))
    compact_text(Disk(), str(path), read_config(str(path), Disk()))
    assert sum(os.stat(path / "segments" / name).st_size for name in segments(path)) < size
    assert os.listdir(path / "quarantine") == []
    assert not check(path).damaged
    with kvfs.open(path, read_only=True) as store:
        assert state(store) == before
        assert store._core.table.next_ino == number


def test_of_a_text_log_that_puts_what_stays_are_puts(tmp_path):
    path = tmp_path / "store"
    with open_store(path, format="text", max_segment_size=30) as store:
        for number in range(5):
            for key in "abc":
                store.put(key, f"{number}|{key}" if key == "b" else f"{number}")
    compact_text(Disk(), str(path), read_config(str(path), Disk()))
    found = b"".join((path / "segments" / name).read_bytes() for name in segments(path))
    assert found == b"P|a|4\np|b|4%7Cb\nP|c|4\n"


def test_a_text_store_with_snapshots_is_left_alone(tmp_path):
    path = tmp_path / "store"
    with open_store(path, format="text") as store:
        store.put("a", "1")
    snapshots.create(path, "s")
    with pytest.raises(ConfigError, match="snapshots"):
        compact_text(Disk(), str(path), read_config(str(path), Disk()))
    with open_store(path), pytest.raises(StoreLockedError):
        compact_text(Disk(), str(path), read_config(str(path), Disk()))


def test_what_could_not_go_goes_when_the_store_is_closed(tmp_path):
    path = tmp_path / "store"
    with small(path) as store:
        overwrite(store)
        with kvfs.open(path, read_only=True):
            demand = store.background.demand(NOTHING)
            while not demand.finished.wait(store.background.tick() / 100):
                pass
            assert "somebody reads" in demand.problem
        assert "00000001.seg" in segments(path)
    assert "00000001.seg" not in segments(path)
    assert not check(path).damaged
