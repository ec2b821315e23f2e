"""A backup has what the store had, goes on where it ended, and whatever stops it leaves it whole."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

import kvfs
from kvfs.cli.main import cli
from kvfs.disk import Disk
from kvfs.errors import CorruptionError, KvfsError, StoreExistsError, StoreLockedError
from kvfs.retention import Retention
from kvfs.store import snapshots
from kvfs.store.backup import backup
from kvfs.store.opening import open_store
from kvfs.store.verify import check

FORMS = ["binary", "text"]


@pytest.fixture(params=FORMS)
def path(request, tmp_path):
    path = str(tmp_path / "store")
    kvfs.init(path, format=request.param, max_segment_size=600)
    return path


@pytest.fixture
def target(tmp_path):
    return str(tmp_path / "backup")


def fill(path, start, count=30, **options):
    with open_store(path, **options) as store:
        for number in range(start, start + count):
            store.put(f"{number % 40}", f"value {number} " * 4)


def values(path):
    with kvfs.open(path, read_only=True) as store:
        return dict(store.items())


def segments(path):
    directory = os.path.join(path, "segments")
    return {name: os.stat(f"{directory}/{name}").st_ino for name in sorted(os.listdir(directory))}


def test_a_backup_is_a_store_with_the_same_values(path, target):
    fill(path, 0)
    done = backup(path, target)
    assert done.records == 30
    assert done.segments == len(segments(path)) > 2
    assert values(target) == values(path)
    report = check(target)
    assert not report.damaged
    assert report.torn == 0
    with open(f"{target}/clean") as one, open(f"{path}/clean") as other:
        assert one.read() == other.read()
    with kvfs.open(target) as store:
        store.put("new", "1")
    assert "new" not in values(path)


def test_the_next_one_copies_what_is_new(path, target):
    fill(path, 0)
    backup(path, target)
    before = segments(target)
    fill(path, 30, 10)
    done = backup(path, target)
    after = segments(target)
    assert values(target) == values(path)
    changed = [name for name in after if after[name] != before.get(name)]
    assert changed == list(after)[-done.segments :]
    assert changed[0] == max(before)
    assert backup(path, target) == (40, 0, 0)


def test_an_empty_store_and_one_that_is_in_use(path, target):
    assert backup(path, target) == (0, 0, 0)
    with kvfs.open(path) as store:
        for number in range(25):
            store.put(f"{number}", "x" * 50)
            backup(path, target)
            assert len(values(target)) == number + 1


def test_only_whole_records_are_copied(path, target):
    fill(path, 0)
    last = f"{path}/segments/{max(segments(path))}"
    os.unlink(f"{path}/clean")
    with open(last, "ab") as file:
        file.write(b"P|torn")
    backup(path, target)
    assert check(target).torn == 0
    assert values(target) == values(path)


class StoppingDisk(Disk):
    """Ends the process before the call number `left` that changes anything."""

    def __init__(self, left):
        self.left = left

    def _count(self):
        if self.left == 0:
            os._exit(9)
        self.left -= 1

    def write(self, *args):
        self._count()
        super().write(*args)

    def rename(self, *args):
        self._count()
        super().rename(*args)

    def unlink(self, *args):
        self._count()
        super().unlink(*args)

    def link(self, *args):
        self._count()
        super().link(*args)

    def exchange(self, *args):
        self._count()
        super().exchange(*args)

    def mkdir(self, *args, **kwargs):
        self._count()
        super().mkdir(*args, **kwargs)


def stopped(path, target, left):
    """Make a backup in a process that ends before the call number `left`; tell if it did."""
    pid = os.fork()
    if pid == 0:
        try:
            backup(path, target, disk=StoppingDisk(left))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("again", [None, "again", "compacted"])
def test_one_that_is_killed_at_any_call_leaves_a_state_and_the_next_goes_on(path, target, again):
    states = [{}]
    with kvfs.open(path) as store:
        if again == "compacted" and store.config.format == "text":
            again = "again"  # it has no checkpoints, and its log is replaced as a whole
        for number in range(25):
            if again and number == 12:
                backup(path, target)
            store.put(f"{number % 9}", f"value {number} " * 4)
            states.append(dict(store.items()))
            if again == "compacted" and number in (10, 20):
                assert store.compact(Retention(0, 0)) is None
        if again == "compacted":
            store.put("late", "x" * 400)
            states.append(dict(store.items()))
            assert store.compact(Retention(0, 0)) is None
            assert not set(segments(target)) & set(segments(path))
    first = shutil.copytree(target, f"{target}.first") if again else None
    for left in range(1000):
        shutil.rmtree(target, ignore_errors=True)
        if first:
            shutil.copytree(first, target)
        if not stopped(path, target, left):
            break
        if os.path.exists(f"{target}/store.toml"):
            assert values(target) in (states[12:] if again else states)
        backup(path, target)
        assert values(target) == states[-1]
        assert not check(target).damaged
    assert 5 < left < 999


def test_damage_is_not_copied(path, target):
    fill(path, 0)
    backup(path, target)
    fill(path, 30, 40)
    name = f"{path}/segments/{sorted(segments(path))[-2]}"
    with open(name, "rb") as file:
        data = bytearray(file.read())
    data[-3:] = b"\xff\xff\xff"
    with open(name, "wb") as file:
        file.write(data)
    with pytest.raises(CorruptionError, match="is damaged at offset"):
        backup(path, target)
    assert not check(target).damaged


def test_a_copy_that_went_its_own_way_is_left_alone(path, target):
    fill(path, 0)
    backup(path, target)
    with kvfs.open(target) as store:
        store.put("mine", "1")
    fill(path, 30, 10)
    with pytest.raises(StoreExistsError, match="does not hold what this store held before"):
        backup(path, target)
    assert values(target)[b"mine"] == b"1"


def test_what_is_no_backup_of_this_store_is_left_alone(path, target, tmp_path):
    fill(path, 0)
    other = str(tmp_path / "other")
    kvfs.init(other)
    with pytest.raises(StoreExistsError, match="something else"):
        backup(path, other)
    os.mkdir(target)
    with open(f"{target}/mine", "w") as file:
        file.write("1")
    with pytest.raises(StoreExistsError, match="something else"):
        backup(path, target)
    with pytest.raises(StoreExistsError, match="the store itself"):
        backup(path, path)
    with pytest.raises(KvfsError, match="backup did not come to its end"):
        backup(path, str(tmp_path / "no" / "such"))


def test_a_backup_that_is_open_for_writing_is_left_alone(path, target):
    fill(path, 0)
    backup(path, target)
    with kvfs.open(target), pytest.raises(StoreLockedError):
        backup(path, target)


def test_checkpoints_come_with_it(tmp_path, target):
    path = str(tmp_path / "store")
    for turn in range(3):
        fill(path, turn, checkpoint_every=1)
        backup(path, target)
        names = [name for name in os.listdir(f"{target}/checkpoints") if name.endswith(".ckp")]
        assert sorted(names) == sorted(
            name for name in os.listdir(f"{path}/checkpoints") if name.endswith(".ckp")
        )
        with kvfs.open(target, read_only=True) as store:
            assert store.checkpointed == store.position
        assert values(target) == values(path)


def test_snapshots_come_and_go_with_it(path, target):
    fill(path, 0)
    snapshots.create(path, "one")
    snapshots.create(path, "two")
    backup(path, target)
    assert snapshots.list_all(target) == snapshots.list_all(path) != []
    snapshots.delete(path, "one")
    fill(path, 30)
    snapshots.create(path, "three")
    backup(path, target)
    assert snapshots.list_all(target) == snapshots.list_all(path)
    with kvfs.open(target, at="two") as past:
        assert len(past) == 30


def test_the_command_line(path, target):
    fill(path, 0)
    runner = CliRunner()
    result = runner.invoke(cli, ["backup", path, target])
    assert result.exit_code == 0, result.output
    assert f"{target} has 30 records; copied " in result.stdout
    result = runner.invoke(cli, ["backup", path, target, "--json"])
    assert json.loads(result.stdout) == {"records": 30, "segments": 0, "bytes": 0}
    assert runner.invoke(cli, ["verify", target]).exit_code == 0
    name = f"{target}/segments/{min(segments(target))}"
    with open(name, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\n\n\n")
    assert runner.invoke(cli, ["verify", target]).exit_code == 1


def compacted(path, turn):
    with open_store(path) as store:
        for number in range(30):
            store.put(f"{number % 7}", f"{turn} {number} " + "x" * 60)
        assert store.compact(Retention(0, 0)) is None
        return dict(store.items())


def test_a_backup_follows_compactions(tmp_path):
    path, target = tmp_path / "store", tmp_path / "copy"
    kvfs.init(path, max_segment_size=512)
    for turn in range(4):
        expected = compacted(path, turn)
        backup(path, target)
        assert list(segments(target)) == list(segments(path))
        assert not check(target).damaged
        with kvfs.open(target, read_only=True) as copy:
            assert dict(copy.items()) == expected


def test_a_backup_that_segments_went_missing_from_waits_for_its_readers(tmp_path):
    path, target = tmp_path / "store", tmp_path / "copy"
    kvfs.init(path, max_segment_size=512)
    before = compacted(path, 0)
    backup(path, target)
    expected = compacted(path, 1)
    with kvfs.open(target, read_only=True) as copy:
        with pytest.raises(kvfs.KvfsError, match="somebody reads"):
            backup(path, target)
        assert dict(copy.items()) == before
    backup(path, target)
    with kvfs.open(target, read_only=True) as copy:
        assert dict(copy.items()) == expected
