"""Repair: what verifies is kept, what is lost is listed, the damaged log stays as it was."""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import kvfs
from kvfs.cli.main import cli
from kvfs.errors import ConfigError, StoreLockedError
from kvfs.store.repair import repair
from kvfs.store.verify import check

KEYS = [b"k%d" % number for number in range(8)]


def fill(path, form):
    """Make a store of several segments; return the values that each key ever had."""
    choose = random.Random(5)
    versions = {key: [] for key in KEYS}
    kvfs.init(path, format=form, max_segment_size=2048)
    with kvfs.open(path) as store:
        for number in range(60):
            key = choose.choice(KEYS)
            length = choose.choice([0, 10, 100, 300, 5000 if form == "binary" else 300])
            value = b"%d:" % number + bytes([65 + number % 26]) * length
            store.put(key, value)
            versions[key].append(value)
    return versions


def segments(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def values(path):
    with kvfs.open(path, read_only=True) as store:
        return dict(store.items())


damages = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 99), st.integers(0, 2**14 * 8)),
        st.tuples(st.just("zero"), st.integers(0, 99), st.integers(0, 2**14 * 8)),
        st.tuples(st.just("cut"), st.integers(0, 99), st.integers(0, 2**14 * 8)),
        st.tuples(st.just("remove"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("swap"), st.integers(0, 99), st.integers(0, 99)),
    ),
    min_size=1,
    max_size=4,
)


def damage(directory, plan):
    for kind, number, place in plan:
        files = sorted(directory.iterdir())
        if not files:
            return
        file = files[number % len(files)]
        data = bytearray(file.read_bytes())
        if kind == "remove":
            file.unlink()
        elif kind == "swap":
            other = files[place % len(files)]
            file.write_bytes(other.read_bytes())
            other.write_bytes(data)
        elif data:
            at = place // 8 % len(data)
            sector = slice(at - at % 512, at - at % 512 + 512)
            if kind == "flip":
                data[at] ^= 1 << place % 8
            elif kind == "zero":
                data[sector] = bytes(len(data[sector]))
            else:
                del data[at:]
            file.write_bytes(data)


class Sound:
    """A sound store, and the values that its keys ever had."""

    def __init__(self, top):
        self.top = top
        self.versions = fill(top / "s", "binary")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return Sound(tmp_path_factory.mktemp("sound"))


@settings(max_examples=int(os.environ.get("KVFS_EXAMPLES", "30")))
@given(damages)
def test_a_key_has_a_value_that_it_had_or_is_listed(sound, plan):
    versions = sound.versions
    with tempfile.TemporaryDirectory(dir=sound.top) as place:
        path = Path(place) / "s"
        shutil.copytree(sound.top / "s", path)
        damage(path / "segments", plan)
        damaged = segments(path / "segments")
        done = repair(path)
        assert not check(path).damaged
        assert segments(Path(done.kept)) == damaged
        found = values(path)
        listed = {fate.key for fate in done.fates}
        unknown = any(lost.key is None and lost.record != "header" for lost in done.lost)
        for key, had in versions.items():
            assert found.get(key) in [*had, None]
            if key not in listed and not unknown:
                assert found.get(key) == had[-1]
        for fate in done.fates:
            assert (fate.state == "gone") is (fate.key not in found)
            moved = any(kind == "swap" for kind, *_ in plan)  # what is lost may be the youngest
            if fate.state == "replaced" and fate.key in versions and not (unknown or moved):
                assert found[fate.key] == versions[fate.key][-1]
        again = repair(path)
        assert (again.lost, again.records) == ([], done.records)


def test_a_sound_store_is_left_alone(tmp_path):
    versions = fill(tmp_path / "s", "binary")
    before = segments(tmp_path / "s" / "segments")
    result = CliRunner().invoke(cli, ["repair", str(tmp_path / "s")])
    assert (result.exit_code, result.output) == (0, "sound: there is nothing to repair\n")
    assert segments(tmp_path / "s" / "segments") == before
    assert values(tmp_path / "s") == {key: had[-1] for key, had in versions.items() if had}


def small(path, **kwargs):
    kvfs.init(path, **kwargs)
    return kvfs.open(path)


def flip(path, text, *, behind=0):
    """Flip a bit of the last place in the log where `text` stands."""
    for file in sorted((path / "segments").iterdir(), reverse=True):
        data = bytearray(file.read_bytes())
        at = data.rfind(text)
        if at >= 0:
            data[at + behind] ^= 1
            file.write_bytes(data)
            return
    pytest.fail(f"{text} is not in the log")


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
    assert [(fate.key, fate.state, fate.now) for fate in done.fates] == [(b"a", "older", b"b")]


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


def test_a_store_without_a_configuration_is_not_touched(tmp_path):
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
    before = segments(path / "segments")
    monkeypatch.setattr("kvfs.log.Log.append", _no_space)
    with pytest.raises(OSError, match="No space"):
        repair(path)
    assert segments(path / "segments") == before
    assert not (path / "segments.repair").exists()
    monkeypatch.undo()
    repair(path)
    assert values(path) == {b"a": b"1"}


def _no_space(*_args, **_kwargs):
    raise OSError(28, os.strerror(28))


def test_what_an_unfinished_repair_left_is_kept(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("a", "1")
        store.put("b", "NEWER")
    flip(path, b"NEWER")
    (path / "segments.repair").mkdir()
    (path / "segments.repair" / "00000001.seg").write_bytes(b"from before")
    done = repair(path)
    assert segments(path / "quarantine" / "segments.1") == {"00000001.seg": b"from before"}
    assert done.kept.endswith("segments.2")
