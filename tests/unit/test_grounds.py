"""What transactions stand on: brought forward, let go, closed."""

import os

import pytest

import kvfs
from kvfs.disk import Disk
from kvfs.retention import NOTHING
from kvfs.store import staged
from kvfs.store.ground import Grounds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    with kvfs.open(path, max_segment_size=1 << 20) as opened:
        yield opened


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
