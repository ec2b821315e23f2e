"""Every sync is needed: where any one of them is left out, the power cuts of these tests show it."""

import pytest
from losses import Loss
from outages import STORE, Session, Violation, half_made, hunt
from test_power_loss import script, step

import kvfs

MAKING = {
    "disk < directories.make_directory < opening.init",
    "store < directories.make_directory < directories.initialise",
    "file < disk.write_file < directories.initialise",
    "store < disk.write_file < directories.initialise",
}
USING = {
    "segments < segment.create",
    "file < log._roll",
    "file < log.sync",
    "file < log.replay",
    "file < disk.write_file < log.close",
    "store < disk.write_file < log.close",
}
FOLLOWING = {"disk < directories.make_directory < opening.init", "store < core.open"}
COPYING = {"store < directories.make_directory < directories.check_directories"}
RECOVERING = {
    "segments < recovery.cut_tail",
    "file < disk.write_file < recovery.keep",
    "quarantine < disk.write_file < recovery.keep",
}
SQUEEZING = {
    "file < log.roll",
    "file < checkpoints._write",
    "checkpoints < checkpoints._write",
}
"""Where no more than one checkpoint stays; where two do, the one makes up for the other."""
AFTER_A_FAILURE = {"segments < log.replay"}
"""Needed where a process died, or failed, between an unlink and its sync: see test_disk_errors.py."""
AFTER_A_CUT_BY_HAND = {"store < recovery.cut_tail"}


def make(ignore=None):
    session = Session("binary", 3, many=20, ignore=ignore).run([])
    hunt(session, again=0.2)
    return session


def follow(ignore=None):
    """Go on where a process died that had made the directory, and one that had made all."""
    for steps in (0, 14):
        disk = half_made(steps)
        session = Session("binary", 3, many=20, ignore=ignore, disk=disk).run([])
        hunt(session)
    return session


def use(ignore=None):
    session = Session("binary", 1, ignore=ignore).run(script("binary"))
    hunt(session)
    return session


def squeeze(ignore=None):
    """Remove segments that only the checkpoint before needed."""
    steps = [step("put", b"kept", b"k" * 300)]
    for turn in b"123":
        steps += [step("put", b"a", b"%d" % turn * 300), step("put", b"b", b"%d" % turn * 300)]
        steps += [step("squeeze")]
    session = Session("binary", 5, many=10, ignore=ignore).run(steps)
    hunt(session)
    return session


def recover(ignore=None):
    session = Session("binary", 0, many=0, ignore=ignore).run(script("binary"))
    hunt(session, again=1.0, most=60)
    return session


def copy(ignore=None):
    steps = [
        step("put", b"a", b"1"),
        step("lose_empty_directories"),
        step("put", b"b", b"2" * 2000),
    ]
    session = Session("binary", 3, size=5000, many=10, ignore=ignore).run(steps)
    hunt(session, again=0.5, most=100)
    return session


def cut_by_hand(ignore=None):
    """Use a log that somebody has shortened after it was closed, up to its old size."""
    session = Session("binary", 4, size=5000, many=10)
    session.disk.watch = None
    kvfs.init(STORE, max_segment_size=5000, disk=session.disk)
    with session.open() as store:
        for key in ("a", "b"):
            store.put(key, "1" * 1000)
    fd = session.disk.open(f"{STORE}/segments/00000001.seg", 2)
    session.disk.truncate(fd, session.disk.size(fd) - 3)
    session.disk = session.disk.crash(Loss(names=True, data=True))
    session.disk.ignore = ignore
    session.recorder.follow(session.disk)
    session.promised = session.promised._replace(records=1)
    session.store = session.open()
    session.states = {1: {b"a": b"1" * 1000}}
    session.held = dict(session.states[1])
    session.put(b"b", b"2" * 1000)
    session.disk.watch = None
    hunt(session)
    return session


@pytest.mark.parametrize(
    ("session", "site"),
    [
        (session, site)
        for session, sites in (
            (make, MAKING),
            (follow, FOLLOWING),
            (use, USING),
            (recover, RECOVERING),
            (squeeze, SQUEEZING),
            (copy, COPYING),
            (cut_by_hand, AFTER_A_CUT_BY_HAND),
        )
        for site in sorted(sites)
    ],
)
def test_a_sync_that_is_left_out_is_found(session, site):
    with pytest.raises(Violation):
        session(site)


def test_all_syncs_of_a_store_are_listed():
    listed = (
        MAKING | FOLLOWING | USING | RECOVERING | COPYING | AFTER_A_CUT_BY_HAND | AFTER_A_FAILURE
    )
    found = recover().disk.sites + cut_by_hand().disk.sites
    assert {site for site in found if "outages" not in site} == listed
