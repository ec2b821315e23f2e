"""After a power cut at any step: all that was synced, and a prefix of what was done.

`KVFS_DEEP=n` examines n random sessions of each format, with seeds that are
new each time; a violation names its seed.
"""

import os
import random

import pytest
from forgetful import ForgetfulDisk
from losses import Loss
from outages import STORE, Session, half_made, hunt, log_files

import kvfs

DEEP = int(os.environ.get("KVFS_DEEP", "0"))
FORMS = ["binary", "text"]


def step(name, *args):
    return lambda session: getattr(session, name)(*args)


def script(form):
    """Return steps that reach every sync: of one process after another, alive and killed."""
    long, longer = (1600, 1400) if form == "binary" else (850, 880)
    return [
        step("put", b"a", b"1"),
        step("put", b"b", b"2" * 90),
        step("sync"),
        step("put", b"a", b"one"),
        step("write", b"b", 40, b"in place"),
        step("put", b"long", b"L" * long),
        step("delete", b"a"),
        step("sync"),
        step("rename", b"b", b"d/b"),
        step("put", b"c", b"3" * 500),
        step("die"),
        step("put", b"c", b"4" * 500),
        step("put", b"c", b"5" * 500),
        step("write", b"d/b", 90, b"end"),
        step("reopen"),
        step("put", b"e", b"E" * 20),
        step("reopen"),
        step("delete", b"long"),
        step("put", b"e", b"F" * 30),
        step("die"),
        step("put", b"long", b"M" * longer),
        step("lose_empty_directories"),
        step("put", b"e", b"G" * 40),
        step("delete", b"c"),
    ]


def with_checkpoints():
    """Return steps with checkpoints on the way, which come to more than are kept."""
    steps = script("binary")
    for place in (18, 12, 8, 3):
        steps[place:place] = [step("sync"), step("checkpoint")]
    return steps


def with_compactions():
    """Return steps with compactions on the way, some of which keep a part of the past."""
    steps = script("binary")
    for place, keep in ((22, "0"), (17, "600B"), (12, "0"), (8, "0"), (3, "all")):
        steps[place:place] = [step("compact", keep)]
    return steps


def draw_steps(draw, form):
    """Return steps that follow no plan."""
    keys = [b"a", b"b", b"d/b", b"long"]
    steps = []
    for _ in range(30):
        key, kind = draw.choice(keys), draw.random()
        size = draw.choice([0, 1, 20, 90, 300, 500, 700, 850])
        if kind < 0.4:
            value = draw.randbytes(size).hex()[:size].encode()
            steps.append(step("put", key, value))
        elif kind < 0.5:
            steps.append(step("put", key, draw.randbytes(2500 if form == "binary" else 250)))
        elif kind < 0.6:
            steps.append(step("write", key, draw.randrange(100), b"in place" * 6))
        elif kind < 0.67:
            steps.append(step("delete", key))
        elif kind < 0.75:
            steps.append(step("rename", key, draw.choice(keys)))
        else:
            steps.append(step(draw.choice(["sync", "sync", "die", "reopen"])))
    return steps


@pytest.mark.parametrize("seed", [1, 2])
def test_power_cuts_while_checkpoints_are_made(seed):
    session = Session("binary", seed, many=3, checkpoint_every=6).run(with_checkpoints())
    assert hunt(session, again=0.02) > 500
    assert any(site.endswith("checkpoints._write") for site in session.disk.sites)


@pytest.mark.parametrize("seed", [1, 2])
def test_power_cuts_while_segments_go(seed):
    session = Session("binary", seed, many=2).run(with_compactions())
    assert hunt(session, again=0.02) > 500
    assert any(site.endswith("compaction.remove_segments") for site in session.disk.sites)


@pytest.mark.parametrize("size", [None, 20_000], ids=["small", "roomy"])
@pytest.mark.parametrize("form", FORMS)
def test_what_was_synced_survives_and_the_rest_is_a_prefix(form, size):
    session = Session(form, 1, size=size).run(script(form))
    assert hunt(session) > 200


@pytest.mark.parametrize("form", FORMS)
def test_a_power_cut_while_recovering_from_one(form):
    session = Session(form, 2, many=0).run(script(form))
    assert hunt(session, again=0.1, most=250) > 260


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(DEEP or 2))
def test_random_sessions(form, number):
    seed = random.SystemRandom().randrange(2**32) if DEEP else number
    draw = random.Random(seed)
    sizes = [600, 700, 1500, 5000, 20000] if form == "binary" else [2000, 5000, 20000]
    session = Session(form, seed, size=draw.choice(sizes), many=3 if DEEP else 2)
    session.run(draw_steps(draw, form))
    assert hunt(session, again=0.1, most=3000 if DEEP else 120) > 100


@pytest.mark.parametrize("form", FORMS)
def test_making_a_store_leaves_none_or_a_whole_one(form):
    session = Session(form, 3, many=20).run([])
    assert hunt(session, again=1.0) > 50


@pytest.mark.parametrize("step", range(17))
def test_making_a_store_where_a_process_died_making_one(step):
    session = Session("binary", 3, many=20, disk=half_made(step))
    assert hunt(session.run([]), again=1.0) > 20


# -- places that were found -----------------------------------------------------------------


class Names(Loss):
    """Data survive; of the changes of names only those that are told."""

    def __init__(self, keeps):
        super().__init__(data=True)
        self.keeps_name = keeps


def test_recovery_may_be_cut_between_the_segments_that_it_removes():
    disk = ForgetfulDisk()
    kvfs.init(STORE, max_segment_size=512, disk=disk)
    with kvfs.open(STORE, disk=disk) as store:
        store.put("k", "old")
    store = kvfs.open(STORE, disk=disk)
    store.put("k", b"x" * 1200)
    last = f"{STORE}/segments/00000004.seg"
    disk = disk.crash(Loss(names=True, data=True))
    fd = disk.open(last, os.O_RDWR)
    disk.truncate(fd, disk.size(fd) - 1)
    disk.sync(fd)
    disk.close(fd)
    removed = []
    true = disk.unlink

    def unlink(path):
        if path.endswith(".seg"):
            removed.append(disk.time)
        true(path)
        if len(removed) == 2:
            raise KeyboardInterrupt

    disk.unlink = unlink
    with pytest.raises(KeyboardInterrupt):
        kvfs.open(STORE, disk=disk)
    found = disk.crash(Names(lambda time: not removed[0] < time <= removed[1]))
    with kvfs.open(STORE, disk=found) as store:
        assert store.get("k") == b"old"


@pytest.mark.parametrize("value", [b"x" * 2000, b"|" * 600], ids=["verbatim", "encoded"])
def test_a_hole_within_a_line_of_text_is_no_value(value):
    disk = ForgetfulDisk()
    store = kvfs.open(STORE, format="text", disk=disk)
    store.put("a", "1")
    store.sync()
    store.put("a", value)
    store.put("b", "2")
    disk.kill()
    fd = disk.open(f"{STORE}/segments/00000001.seg", os.O_RDWR)
    disk.write(fd, bytes(512), 1024)
    disk.close(fd)
    with kvfs.open(STORE, disk=disk) as store:
        assert dict(store.items()) == {b"a": b"1"}
    assert len(log_files(disk, "quarantine")) == 1
