"""A power cut during a repair leaves the damaged store or the repaired one, and all of the old log."""

import os

import pytest
from forgetful import ForgetfulDisk
from losses import Loss
from outages import STORE, Recorder, Violation, log_files, replayed

import kvfs
from kvfs.store import repair as repairing

LEFT = {b"a": b"1", b"c": b"3" * 300, b"d": b"4" * 300}


def damaged(form, ignore=None):
    """Return a disk with a store that was closed, and then lost a record to damage."""
    disk = ForgetfulDisk()
    kvfs.init(STORE, format=form, max_segment_size=512, disk=disk)
    with kvfs.open(STORE, disk=disk) as store:
        for key, value in {**LEFT, b"b": b"2" * 300, b"e": b""}.items():
            store.put(key, value)
    path, offset = next(
        (path, data.index(b"22222"))
        for path, data in disk.files().items()
        if data and b"22222" in data
    )
    fd = disk.open(path, os.O_RDWR)
    disk.write(fd, b"\n" if form == "text" else b"?", offset)
    disk.close(fd)
    disk = disk.crash(Loss(names=True, data=True))
    disk.ignore = ignore
    return disk


@pytest.fixture
def repair(monkeypatch):
    """Return a function that repairs the store on a disk."""

    def call(disk):
        monkeypatch.setattr(repairing, "Disk", lambda: disk)
        return repairing.repair(STORE)

    return call


def cut(form, repair, ignore=None):
    """Examine repairs of a damaged store that are cut at each step; return how many."""
    disk = damaged(form, ignore)
    old = log_files(disk)
    done = []
    recorder = Recorder(disk, form, lambda: len(done), checksums=form == "binary", many=6)
    assert repair(disk).lost
    done.append(True)
    recorder.step()
    disk.watch = None
    new = log_files(disk)
    for image in recorder.images:
        try:
            examine(image, old, new, repair)
        except Exception as error:
            message = f"{image.origin}, {'after' if image.promised else 'before'} the end"
            raise Violation(message) from error
    return len(recorder.images)


def examine(image, old, new, repair):
    disk = image.disk
    found = log_files(disk)
    if found == old:
        assert not image.promised, "the repair is undone"
        assert old not in copies(disk), "the log is in quarantine as well"
        repair(disk)
    else:
        assert found == new, "this is neither the old log nor the new one"
        assert old in copies(disk) or (
            not image.promised and log_files(disk, "segments.repair") == old
        ), "the old log is not kept"
    with kvfs.open(STORE, create=False, disk=disk) as store:
        held = dict(store.items())
        assert {key: held[key] for key in LEFT} == LEFT
        assert store.position == len(replayed(disk, store.config))


def copies(disk):
    return [log_files(disk, f"quarantine/{name}") for name in disk.list(f"{STORE}/quarantine")]


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_power_cut_during_a_repair(form, repair):
    assert cut(form, repair) > 50


SYNCS = {
    "file < log._roll",
    "file < log.sync",
    "segments.repair < repair._repair",
    "store < repair._repair",
    "quarantine < repair._repair",
}
SHARED = {
    "segments.repair < segment.create",
    "file < disk.write_file < log.close",
    "segments.repair < disk.write_file < log.close",
}
"""What the log syncs by itself. A repair syncs those names again at its end, or removes them."""


@pytest.mark.parametrize("site", sorted(SYNCS))
def test_a_sync_of_a_repair_that_is_left_out_is_found(site, repair):
    disk = damaged("binary")
    repair(disk)
    assert disk.sites[site]
    for number in range(disk.sites[site]):
        with pytest.raises(Violation):
            cut("binary", repair, (site, number + 1))


def test_all_syncs_of_a_repair_are_listed(repair):
    disk = damaged("binary")
    repair(disk)
    assert set(disk.sites) == SYNCS | SHARED
