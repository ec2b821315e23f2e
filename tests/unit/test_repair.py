"""Repair: what verifies is kept, what is lost is listed, the damaged log stays as it was."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from histories import DIRECTORIES, PRIVATE, History, damage, is_tainted, read_all, tainted
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wounded import flip, small, values

import kvfs
from kvfs.cli.main import cli
from kvfs.errors import ConfigError, StoreLockedError
from kvfs.records import Delete
from kvfs.store.listing import losses
from kvfs.store.repair import repair
from kvfs.store.verify import check

damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "zero", "cut", "remove", "swap"]),
        st.integers(0, 99),
        st.integers(0, 2**14 * 8),
    ),
    min_size=1,
    max_size=4,
)
examples = settings(max_examples=int(os.environ.get("KVFS_EXAMPLES", "60")))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return a function that gives the history of a seed, to be copied before it is damaged."""
    top = tmp_path_factory.mktemp("sound")
    made = {}

    def make(seed, form):
        if (seed, form) not in made:
            made[seed, form] = History(top / f"{seed} {form}", seed, form).keep()
        return made[seed, form]

    return make


@examples
@given(seed=st.integers(0, 40), plan=damages)
@example(
    seed=36, plan=[("zero", 76, 962)]
)  # a link is lost, and a change by the other name refused
def test_no_key_has_a_value_that_it_never_had(sound, seed, plan):
    history = sound(seed, "binary")
    with repaired(history, plan) as (path, done, lost):
        found = values(path)
        for key, value in found.items():
            assert value in history.may_have(key), key
            assert value in history.contents, key
        told = {key for entry in done.lost for key in (entry.key, entry.new) if key is not None}
        told |= {fate.key for fate in done.fates}
        keys = tainted([*lost, *map(Delete, told)], history.records)
        for key in {*history.final, *found}:
            if not is_tainted(key, keys):
                assert found.get(key) == history.final.get(key), key
        for fate in done.fates:
            assert fate.state != "gone" or fate.key not in found
            assert fate.size is None or fate.key in found or fate.key not in fate.now
        if lost:
            assert done.lost
        with kvfs.open(path, read_only=True) as store:
            for name in DIRECTORIES:
                directory = store._core.table.find_directory(name)
                mode = directory and directory.mode & 0o7777
                assert mode in (None, PRIVATE) or (name, mode) in history.modes


@examples
@given(seed=st.integers(0, 40), plan=damages)
def test_a_store_of_text_is_sound_after_any_damage(sound, seed, plan):
    with repaired(sound(seed, "text"), plan):
        pass


@contextmanager
def repaired(history, plan):
    """Damage a copy of the store of `history`, repair that, and check what holds in any case.

    Yields its path, what the repair did, and the records that the damage has hit.
    """
    with tempfile.TemporaryDirectory(dir=history.path.parent) as place:
        path = Path(place) / "s"
        shutil.copytree(history.path, path)
        damage(path / "segments", plan)
        damaged = read_all(path / "segments")
        was_damaged = check(path).damaged
        done = repair(path)
        assert (done.kept is not None) is was_damaged
        assert not check(path).damaged
        if done.kept:
            assert read_all(Path(done.kept)) == damaged
            assert json.loads(Path(f"{done.kept}.json").read_text()) == losses(
                done.lost, done.fates, done.directories
            )
        again = repair(path)
        assert (again.kept, again.lost, again.finished) == (None, [], False)
        yield path, done, history.damaged(damaged)


def test_a_sound_store_is_left_alone(tmp_path):
    history = History(tmp_path / "s", 1)
    before = read_all(tmp_path / "s" / "segments")
    result = CliRunner().invoke(cli, ["repair", str(tmp_path / "s")])
    assert (result.exit_code, result.output) == (0, "sound: there is nothing to repair\n")
    assert read_all(tmp_path / "s" / "segments") == before
    assert values(tmp_path / "s") == history.final


def test_the_older_value_is_named(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "the old value")
        store.put("b", "b")
        store.put("a", "NEWER")
        store.put("c", "c")
    flip(path, b"NEWER")
    result = CliRunner().invoke(cli, ["repair", "--json", str(path)])
    told = json.loads(result.output)
    assert result.exit_code == 0
    assert [(lost["record"], lost["key"]) for lost in told["lost"]] == [("Put", "a")]
    (fate,) = told["keys"]
    assert (fate["key"], fate["state"], fate["size"]) == ("a", "older", 13)
    assert values(path) == {b"a": b"the old value", b"b": b"b", b"c": b"c"}


def test_a_value_that_lost_a_part_takes_no_more_parts(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "0123456789")
        node = store.files.lookup(1, b"a")
        for offset, data in ((0, b"FIRST"), (5, b"LATER")):
            store.files.content.write(node, offset, data)
            store.files.content.commit(node)
    flip(path, b"FIRST")
    done = repair(path)
    assert values(path) == {b"a": b"0123456789"}
    assert [lost.record for lost in done.lost] == ["Write", "Write"]
    assert [fate.state for fate in done.fates] == ["older"]


def test_a_value_follows_its_renaming(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "old")
        store.put("a", "NEWER")
        store.rename("a", "b")
    flip(path, b"NEWER")
    done = repair(path)
    assert values(path) == {b"b": b"old"}
    assert [(fate.key, fate.state, fate.now) for fate in done.fates] == [(b"a", "older", (b"b",))]


def test_no_part_of_a_torn_batch_is_kept(tmp_path):
    path = tmp_path / "s"
    with small(path, max_segment_size=4096) as store:
        store.put("a", "old")
        store.put("a", b"x" * 20_000)
        store.put("b", "b")
    for number in range(2, 6):
        work = tmp_path / f"w{number}"
        shutil.copytree(path, work)
        file = work / "segments" / f"{number:08}.seg"
        data = bytearray(file.read_bytes())
        data[90] ^= 1
        file.write_bytes(data)
        repair(work)
        assert values(work) == {b"a": b"old", b"b": b"b"}


def test_lines_of_text_are_salvaged(tmp_path):
    path = tmp_path / "s"
    with small(path, format="text", max_segment_size=20) as store:
        for number in range(10):
            store.put(f"k{number}", str(number))
    (path / "segments" / "00000002.seg").unlink()
    file = path / "segments" / "00000003.seg"
    file.write_bytes(b"Q" + file.read_bytes()[1:])
    lost = repair(path).lost
    assert [entry.segment for entry in lost] == ["00000002.seg", "00000003.seg"]
    assert not check(path).damaged
    found = values(path)
    assert found.keys() < {b"k%d" % number for number in range(10)}
    assert all(value == key[1:] for key, value in found.items())


def test_what_root_repairs_stays_its_owners(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "1")
        store.put("b", "NEWER")
    flip(path, b"NEWER")
    owner = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    for place in (path, *path.rglob("*")):
        os.chown(place, *owner)
    repair(path)
    for place in path.rglob("*"):
        assert (place.stat().st_uid, place.stat().st_gid) == owner, place


def test_an_open_store_is_not_repaired(tmp_path):
    path = tmp_path / "s"
    with small(path), pytest.raises(StoreLockedError, match=str(os.getpid())):
        repair(path)


def test_a_store_without_configuration_and_segments_is_not_touched(tmp_path):
    path = tmp_path / "s"
    small(path).close()
    (path / "store.toml").write_text("format = ")
    with pytest.raises(ConfigError):
        repair(path)


def test_a_repair_that_fails_leaves_all_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "1")
        store.put("b", "NEWER")
    flip(path, b"NEWER")
    before = read_all(path / "segments")
    monkeypatch.setattr("kvfs.log.Log.append", _no_space)
    with pytest.raises(OSError, match="No space"):
        repair(path)
    assert read_all(path / "segments") == before
    assert not (path / "segments.repair").exists()
    monkeypatch.undo()
    repair(path)
    assert values(path) == {b"a": b"1"}


def _no_space(*_args, **_kwargs):
    raise OSError(28, os.strerror(28))


def test_what_an_unfinished_repair_left_goes(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "1")
        store.put("b", "NEWER")
    flip(path, b"NEWER")
    (path / "segments.repair").mkdir()
    (path / "segments.repair" / "00000001.seg").write_bytes(b"from before")
    done = repair(path)
    assert done.kept.endswith("segments.1")
    assert not (path / "segments.repair").exists()
