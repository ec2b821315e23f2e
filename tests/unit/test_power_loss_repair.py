"""A power cut during a repair leaves the damaged store or the repaired one, and all of the old log."""

import json
import os

import pytest
from forgetful import ForgetfulDisk
from losses import Loss
from outages import STORE, Recorder, Violation, log_files, replayed

import kvfs
from kvfs.store.exchange import pending
from kvfs.store.repair import repair
from kvfs.store.verify import check

LEFT = {b"a": b"1", b"c": b"3" * 300, b"d": b"4" * 300}
"""What is left of a store that loses the value of `b`, or its last segment."""


def damaged(form, ignore=None, *, how="flipped"):
    """Return a disk with a store that was closed, and then lost a record to damage."""
    disk = ForgetfulDisk()
    kvfs.init(STORE, format=form, max_segment_size=512, disk=disk)
    with kvfs.open(STORE, disk=disk) as store:
        for key, value in {**LEFT, b"b": b"2" * 300, b"e": b""}.items():
            store.put(key, value)
    if how == "missing":  # which nothing tells but what the last close left
        disk.unlink(max(path for path in disk.files() if path.endswith(".seg")))
    else:
        path, data = next(
            (p, data) for p, data in disk.files().items() if b"22222" in (data or b"")
        )
        fd = disk.open(path, os.O_RDWR)
        disk.write(fd, b"\n" if form == "text" else b"?", data.index(b"22222"))
        disk.close(fd)
    disk = disk.crash(Loss(names=True, data=True))
    disk.ignore = ignore
    return disk


def cut(form, ignore=None, *, how="flipped"):
    """Examine repairs of a damaged store that are cut at each step; return how many."""
    disk = damaged(form, ignore, how=how)
    old = segments(disk)
    done = []
    recorder = Recorder(disk, form, lambda: len(done), checksums=form == "binary", many=6)
    assert repair(STORE, disk=disk).lost
    done.append(True)
    recorder.step()
    disk.watch = None
    new = segments(disk)
    for image in recorder.images:
        try:
            examine(image, old, new)
        except Exception as error:
            message = f"{image.origin}, {'after' if image.promised else 'before'} the end"
            raise Violation(message) from error
    return len(recorder.images)


def examine(image, old, new):
    disk = image.disk
    found = segments(disk)
    if found == old and not copies(disk) and pending(disk, STORE) is None:
        assert not image.promised, "the repair is undone"
        assert check(STORE, disk=disk).damaged, "the damage is not to be seen any more"
        assert repair(STORE, disk=disk).lost
    else:
        assert found == new, "this is neither the old log nor the new one"
        if old not in copies(disk):
            assert not image.promised, "the old log is not kept"
            assert segments(disk, "segments.repair") == old, "the old log is gone"
            assert check(STORE, disk=disk).damaged, "nothing tells that there is more to do"
    if image.promised:
        assert len(lists(disk)) == len(copies(disk)), "the list is not in its place"
    with kvfs.open(STORE, create=False, disk=disk) as store:
        assert old in copies(disk), "the old log is not kept"
        (listed,) = lists(disk)
        assert json.loads(listed)["lost"], "the list has been lost"
        held = dict(store.items())
        assert {key: held.get(key) for key in LEFT} == LEFT
        assert store.position == len(replayed(disk, store.config))
    assert not check(STORE, disk=disk).damaged


def segments(disk, where="segments"):
    return {name: data for name, data in log_files(disk, where).items() if name.endswith(".seg")}


def names(disk):
    return [name for name in disk.list(f"{STORE}/quarantine") if name.startswith("segments.")]


def copies(disk):
    return [segments(disk, f"quarantine/{name}") for name in names(disk) if ".json" not in name]


def lists(disk):
    kept = log_files(disk, "quarantine")
    return [kept[name] for name in names(disk) if name.endswith(".json")]


@pytest.mark.parametrize("how", ["flipped", "missing"])
@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_power_cut_during_a_repair(form, how):
    assert cut(form, how=how) > 50


SYNCS = {
    "file < log._roll",
    "file < log.sync",
    "file < disk.write_file < exchange.take_place",
    "segments.repair < disk.write_file < exchange.take_place",
    "store < exchange.finish",
    "quarantine < exchange.finish",
    "segments < exchange.finish",
}
SHARED = {
    "segments.repair < segment.create",
    "file < disk.write_file < log.close",
    "segments.repair < disk.write_file < log.close",
}
"""What the log syncs by itself. A repair syncs those names again at its end, or removes them."""


def cut_both(ignore):
    for how in ("missing", "flipped"):
        cut("binary", ignore, how=how)


@pytest.mark.parametrize("site", sorted(SYNCS))
def test_a_sync_of_a_repair_that_is_left_out_is_found(site):
    disk = damaged("binary")
    repair(STORE, disk=disk)
    assert disk.sites[site]
    for number in range(disk.sites[site]):
        with pytest.raises(Violation):
            cut_both((site, number + 1))


def test_all_syncs_of_a_repair_are_listed():
    disk = damaged("binary")
    repair(STORE, disk=disk)
    assert set(disk.sites) == SYNCS | SHARED
