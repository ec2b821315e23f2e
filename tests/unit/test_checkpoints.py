"""The checkpoints of a store: made from files, stood on where they are good, done without else."""

import errno
import json
import logging
import os
import random
import subprocess
import sys

import pytest
from histories import History
from test_table_states import looked_at

import kvfs
from kvfs.checkpoint import write
from kvfs.disk import Disk
from kvfs.errors import CorruptionError, KvfsError
from kvfs.records import Location, Put
from kvfs.recovery import LogPaths
from kvfs.store.checkpoints import Checkpoints, Standing
from kvfs.store.keeping import DEFAULT
from kvfs.store.opening import open_store, read_config
from kvfs.store.process import Order
from kvfs.store.repair import repair
from kvfs.store.verify import check, replay
from kvfs.table import Table


def of(path):
    return Checkpoints(Disk(), str(path), read_config(str(path), Disk()))


def checkpoints(path):
    return sorted(p for p in path.joinpath("checkpoints").iterdir() if p.suffix == ".ckp")


def replayed(path):
    """Return the table that the whole log makes."""
    config = read_config(str(path), Disk())
    table = Table(os.getuid(), os.getgid(), config.created)
    begin = Standing(table, None, 0)
    assert replay(Disk(), LogPaths.of(str(path)), config, begin).problems == []
    return table


def filled(path, count=20, **options):
    with open_store(path, checkpoint_every=1, **options) as store:
        for number in range(count):
            store.put(f"{number}", f"value {number}")


def again(path, count, text, **options):
    with open_store(path, checkpoint_every=1, **options) as store:
        for number in range(count):
            store.put(f"{number}", text)


def values(path):
    with kvfs.open(path, read_only=True) as store:
        return dict(store.items())


@pytest.mark.parametrize("seed", range(12))
def test_a_store_is_the_same_with_checkpoints_and_without(tmp_path, seed):
    path = tmp_path / "store"
    history = History(path, seed, count=120)
    draw = random.Random(seed)
    places = sorted(draw.sample([place for place, _ in history.records], 6))
    for segment, offset, length in places:
        of(path).make((segment, offset + length))  # some within a batch
    assert 1 <= len(checkpoints(path)) <= 2
    with kvfs.open(path, read_only=True) as store:
        assert store._core.checkpointed > 0
        expected = replayed(path)
        assert looked_at(store._core.table) == looked_at(expected)
        assert store._core.table.state() == expected.state()


def test_a_clean_close_leaves_a_checkpoint_of_all(tmp_path):
    path = tmp_path / "store"
    filled(path)
    with kvfs.open(path) as store:
        assert store._core.checkpointed == store.position == 20
        assert store.get("7") == b"value 7"
        store.put("7", "new")
    assert values(path)[b"7"] == b"new"
    assert len(checkpoints(path)) == 1  # one record is not worth another


def test_a_small_store_has_none_unless_told(tmp_path):
    path = tmp_path / "store"
    with kvfs.open(path) as store:
        store.put("a", "1")
    assert checkpoints(path) == []


def test_the_last_two_are_kept(tmp_path):
    path = tmp_path / "store"
    for turn in range(4):
        again(path, 5, f"turn {turn}")
    assert [int(name.stem) for name in checkpoints(path)] == [15, 20]


@pytest.mark.parametrize("broken", [(1,), (0, 1), (0,)])
@pytest.mark.parametrize("how", ["cut", "flip", "gone", "empty", "directory"])
def test_one_that_is_no_good_is_passed_over(tmp_path, broken, how, caplog):
    path = tmp_path / "store"
    for turn in range(3):
        again(path, 30, f"turn {turn}", max_segment_size=1024)
    files = checkpoints(path)
    for index in broken:
        data = bytearray(files[index].read_bytes())
        data[len(data) // 2] ^= 4
        files[index].unlink()
        if how == "directory":
            files[index].mkdir()
        elif how != "gone":
            files[index].write_bytes({"cut": data[:-1], "flip": data, "empty": b""}[how])
    with kvfs.open(path) as store:
        stood_on = {(1,): 60, (0, 1): 0, (0,): 90}[broken]
        assert store._core.checkpointed == stood_on
        assert {store.get(f"{n}") for n in range(30)} == {b"turn 2"}
        store.put("0", "later")
    assert values(path)[b"0"] == b"later"
    assert ("is not used" in caplog.text) == (how != "gone" and 1 in broken)


def test_one_that_is_no_good_makes_room_for_the_next(tmp_path):
    path = tmp_path / "store"
    for turn in range(2):
        again(path, 5, f"turn {turn}")
    files = checkpoints(path)
    files[1].write_bytes(b"garbage")
    again(path, 5, "more")
    assert [int(name.stem) for name in checkpoints(path)] == [5, 15]
    again(path, 5, "still more")
    assert [int(name.stem) for name in checkpoints(path)] == [15, 20]


def test_a_checkpoint_that_is_ahead_of_the_log_is_not_used(tmp_path):
    path = tmp_path / "store"
    filled(path)
    segment = path / "segments" / "00000001.seg"
    data = segment.read_bytes()
    segment.write_bytes(data[:-30])
    with kvfs.open(path) as store:
        assert store._core.checkpointed == 0
        assert len(store) == 19
        store.put("other", "x" * 1000)  # beyond where it stood
    assert set(values(path)) == {b"other", *(b"%d" % n for n in range(19))}


def test_another_log_of_the_same_length_is_not_taken_for_this_one(tmp_path):
    path, other = tmp_path / "store", tmp_path / "other"
    with open_store(path) as store:
        store.put("a", "1")
    data = path.joinpath("segments/00000001.seg").read_bytes()
    again(path, 5, "here")
    other.mkdir()
    path.joinpath("segments/00000001.seg").write_bytes(data)
    path.joinpath("clean").unlink()
    with open_store(path) as store:
        for number in range(5):
            store.put(f"{number}", "else")
    assert values(path) == {b"a": b"1", **{b"%d" % n: b"else" for n in range(5)}}


def test_what_was_read_before_is_not_read_again(tmp_path):
    """A damaged value is found when it is asked for, and no other one goes with it."""
    path = tmp_path / "store"
    filled(path, 40, max_segment_size=1024)
    segment = path / "segments" / "00000001.seg"
    data = bytearray(segment.read_bytes())
    place = data.index(b"value 3")
    data[place] ^= 1
    segment.write_bytes(data)
    with kvfs.open(path) as store:
        with pytest.raises(CorruptionError, match=r"00000001\.seg is damaged at offset"):
            store.get("3")
        assert store.get("4") == b"value 4"
        store.put("3", "mended")
        assert store.get("3") == b"mended"


def test_a_missing_segment_is_missed_all_the_same(tmp_path):
    path = tmp_path / "store"
    filled(path, 60, max_segment_size=1024)
    path.joinpath("segments/00000001.seg").unlink()
    with pytest.raises(CorruptionError, match=r"00000001\.seg.* is missing"):
        kvfs.open(path)


def test_a_text_store_has_none(tmp_path):
    path = tmp_path / "store"
    filled(path, format="text")
    assert list(path.joinpath("checkpoints").iterdir()) == []
    assert not of(path).make((1, 20))


class FullDisk(Disk):
    """A disk on which there is no room for a checkpoint."""

    def write(self, fd, data, offset):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".ckp.tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(fd, data, offset)


def test_a_full_disk_costs_no_more_than_the_checkpoint(tmp_path, caplog):
    path = tmp_path / "store"
    with caplog.at_level(logging.WARNING):
        filled(path, disk=FullDisk())
    assert "no checkpoint was made: " in caplog.text
    assert [p.name for p in path.joinpath("checkpoints").iterdir()] == ["lock"]
    assert len(values(path)) == 20


def test_what_a_crash_left_of_one_is_removed(tmp_path):
    path = tmp_path / "store"
    filled(path)
    stale = path / "checkpoints" / "00000000000000000007.ckp.tmp"
    stale.write_bytes(b"half")
    again(path, 3, "more")
    assert not stale.exists()


def test_two_do_not_make_one_at_a_time(tmp_path):
    path = tmp_path / "store"
    filled(path)
    lock = os.open(path / "checkpoints" / "lock", os.O_RDWR)
    disk = Disk()
    assert disk.lock(lock)
    with open_store(path) as store:
        store.put("a", "1")
        store.sync()
        assert not of(path).make(store._core.log.stable)
        os.close(lock)
        assert of(path).make(store._core.log.stable)


def test_nothing_new_is_worth_none(tmp_path):
    path = tmp_path / "store"
    filled(path)
    before = [(p.name, p.stat().st_mtime_ns) for p in checkpoints(path)]
    with open_store(path, checkpoint_every=1):
        pass
    assert [(p.name, p.stat().st_mtime_ns) for p in checkpoints(path)] == before


def test_damage_in_the_log_is_in_no_checkpoint(tmp_path):
    path = tmp_path / "store"
    with open_store(path, max_segment_size=1024) as store:
        for number in range(60):
            store.put(f"{number}", f"value {number}")
    segment = path / "segments" / "00000001.seg"
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    with pytest.raises(KvfsError, match=r"00000001\.seg is damaged"):
        of(path).make((3, 1024))
    assert checkpoints(path) == []


def test_check_holds_checkpoints_against_the_log(tmp_path):
    path = tmp_path / "store"
    for turn in range(2):
        again(path, 5, f"turn {turn}")
    report = check(str(path))
    assert [found[1:] for found in report.checkpoints] == [(5, None), (10, None)]
    files = checkpoints(path)
    files[0].write_bytes(files[0].read_bytes()[:-1])
    _let_it_say_more(path, files[1])
    report = check(str(path))
    assert report.damaged
    assert [found.problem for found in report.checkpoints] == [
        "its end is damaged",
        "it is not what the log makes",
    ]
    done = repair(str(path))
    assert (done.kept, sorted(done.checkpoints)) == (None, [file.name for file in files])
    assert checkpoints(path) == []
    assert not check(str(path)).damaged
    assert len(values(path)) == 5


def _let_it_say_more(path, file):
    """Put a checkpoint in the place of `file` that has a key too many."""
    standing = of(path).stand()
    standing.table.apply(Put(b"more", b"x"), Location(1, 64, 50))
    disk = Disk()
    fd = disk.open(f"{file}.new", os.O_RDWR | os.O_CREAT)
    position = standing.checkpoint.position._replace(nodes=len(standing.table.nodes))
    write(disk, fd, of(path)._config.id, standing.table, position, standing.checkpoint)
    disk.close(fd)
    standing.checkpoint.close()
    os.rename(f"{file}.new", file)


def test_a_repair_leaves_no_checkpoint_of_the_old_log(tmp_path):
    path = tmp_path / "store"
    filled(path, 40, max_segment_size=1024)
    segment = path / "segments" / "00000001.seg"
    data = bytearray(segment.read_bytes())
    data[data.index(b"value 3")] ^= 1
    segment.write_bytes(data)
    assert check(str(path)).damaged
    done = repair(str(path))
    assert [entry.key for entry in done.lost] == [b"3"]
    assert checkpoints(path) == []
    assert len(values(path)) == 39


def test_a_store_of_another_owner_is_what_its_log_says(tmp_path):
    path = tmp_path / "store"
    filled(path)
    for top, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            os.chown(os.path.join(top, name), 7, 8)
    assert [found.problem for found in check(str(path)).checkpoints] == [
        "the store had another owner"
    ]
    with open_store(path, checkpoint_every=1) as store:
        assert store.checkpointed == 0
        node = store._core.table.find(b"1")
        assert (node.uid, node.gid) == (7, 8)
        store.put("more", "x")
    assert not check(str(path)).damaged
    with kvfs.open(path) as store:
        assert store.checkpointed == 21
        assert store._core.table.root.uid == 7


def test_those_that_are_no_good_go_with_the_next(tmp_path):
    path = tmp_path / "store"
    for turn in range(2):
        again(path, 20, f"turn {turn}")
    segment = path / "segments" / "00000001.seg"
    os.truncate(segment, 300)
    again(path, 20, "later")
    assert len(checkpoints(path)) == 1
    assert not check(str(path)).damaged


def test_a_directory_in_the_way_blocks_nothing(tmp_path, caplog):
    path = tmp_path / "store"
    filled(path)
    for name in ("99999999999999999999.ckp", "x.tmp"):
        path.joinpath("checkpoints", name).mkdir()
    for turn in range(4):
        again(path, 20, f"turn {turn}")
    found = [int(file.stem) for file in checkpoints(path) if file.is_file()]
    assert found == [80, 100]
    assert "Is a directory" in caplog.text
    assert "Errno" not in caplog.text
    assert repair(str(path)).kept is None


def test_one_whose_daemon_has_gone_makes_nothing(tmp_path):
    path = tmp_path / "store"
    with open_store(path) as store:
        store.put("a", "1")
    order = json.dumps(Order((1, 100000), DEFAULT))
    command = [sys.executable, "-m", "kvfs.store.process", path, order]
    subprocess.run([*command, "1"], check=True)
    assert checkpoints(path) == []
    subprocess.run([*command, str(os.getpid())], check=True)
    assert len(checkpoints(path)) == 2


def test_small_values_that_were_replayed_are_in_memory(tmp_path):
    path = tmp_path / "store"
    with kvfs.open(path) as store:
        store.put("a", "1")
    with kvfs.open(path) as store:
        table = store._core.table
        assert table.nodes.value_of(table.number_of(b"a")) == b"1"


def test_a_value_that_was_cut_is_read_from_a_checkpoint(tmp_path):
    path = tmp_path / "store"
    with open_store(path, checkpoint_every=1) as store:
        store.put("a", "x" * 100)
        store.files.content.truncate(store.files.lookup(1, b"a"), 7)
    with kvfs.open(path) as store:
        assert store.get("a") == b"x" * 7
