"""Power cuts at every step of a use of a store, and what must be found after each.

A `Session` uses a store on a forgetful disk and remembers, for each length of
the log, what the store held. A `Recorder` draws the disks that a power cut can
leave behind at each step. `examine` opens one of them and holds it against
what the session knows.
"""

import os
import random
from contextlib import suppress
from typing import NamedTuple

from forgetful import ForgetfulDisk
from losses import Loss, losses

import kvfs
from kvfs.errors import CorruptionError
from kvfs.records import Relocate
from kvfs.recovery import LogPaths, Replay
from kvfs.retention import Retention
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.opening import open_store
from kvfs.table import audit

STORE = "/disk/store"


class Violation(AssertionError):
    """A promise that was not kept."""


class Promised(NamedTuple):
    """How many records must be there, -1 before there is a store; and that it was closed since."""

    records: int = -1
    closed: bool = False


class Image:
    """A disk after a power cut: how it came about, and what had been promised before."""

    def __init__(self, disk, origin, promised, lenient):
        self.disk = disk
        self.origin = origin
        self.promised = promised
        self.lenient = lenient


class Recorder:
    """Draws images of `disk` at each of its steps; no image twice."""

    def __init__(self, disk, seed, promised, *, checksums, many, share=1.0):
        self.images = []
        self.steps = 0
        self._seed = seed
        self._promised = promised
        self._checksums = checksums
        self._many = many
        self._share = share
        self._random = random.Random(f"steps {seed}")
        self._seen = set()
        self.follow(disk)

    def follow(self, disk):
        """Draw images of `disk` from now on."""
        self._disk = disk
        disk.watch = self.step

    def step(self):
        """Draw what the disk can be if the power goes now."""
        self.steps += 1
        if self._random.random() > self._share:
            return
        seed = f"{self._seed} {self.steps}"
        for loss in losses(seed, self._disk.time, checksums=self._checksums, many=self._many):
            disk = self._disk.crash(loss)
            promised = self._promised()
            shown = (promised, loss.lenient, *sorted(disk.files().items()))
            if hash(shown) not in self._seen:
                self._seen.add(hash(shown))
                origin = f"seed {self._seed!r}, step {self.steps}, {type(loss).__name__}"
                self.images.append(Image(disk, origin, promised, loss.lenient))


class Session:
    """One use of a store, from its making on."""

    def __init__(
        self, form, seed, *, size=None, many=2, ignore=None, disk=None, checkpoint_every=None
    ):
        self.form = form
        self.checkpoint_every = checkpoint_every
        self.random = random.Random(f"session {seed}")
        self.disk = disk or ForgetfulDisk()
        self.disk.ignore = ignore
        self.size = size or (700 if form == "binary" else 900)
        self.states = {0: {}}
        self.promised = Promised()
        self.recorder = Recorder(
            self.disk, seed, lambda: self.promised, checksums=form == "binary", many=many
        )
        self.log = {}
        self.store = None
        self.held = {}

    @property
    def checksums(self):
        return self.form == "binary"

    def run(self, steps):
        """Make a store, call each of `steps` with this session, and close it."""
        with suppress(kvfs.StoreExistsError):  # one that a process made that has died since
            kvfs.init(STORE, format=self.form, max_segment_size=self.size, disk=self.disk)
            self.promised = Promised(0)
        self.store = self.open()
        self.promised = Promised(0)
        for step in steps:
            step(self)
        self.close()
        self.disk.watch = None
        self.remember()
        return self

    def remember(self):
        """Remember the records that the log has; those before may be gone by now."""
        self.log |= replayed(self.disk, self.store.config)

    def open(self):
        self.promised = Promised(self.promised.records)
        every = self.checkpoint_every
        return open_store(STORE, create=False, disk=self.disk, checkpoint_every=every)

    def note(self):
        """Note what the store holds now."""
        self.states[self.store.position] = dict(self.held)

    def put(self, key, value):
        self.store.put(key, value)
        self.held[key] = value
        self.note()

    def delete(self, key):
        if self.store.delete(key):
            del self.held[key]
            self.note()

    def rename(self, old, new):
        if old != new and self.store.rename(old, new):
            self.held[new] = self.held.pop(old)
            self.note()

    def write(self, key, offset, data):
        """Write in place, as the mount does."""
        if key not in self.held:
            return
        node = self.store._core.table.find(key)
        content = self.store.files.content
        content.write(node, offset, data)
        content.commit(node)
        old = self.held[key].ljust(offset, b"\0")
        self.held[key] = old[:offset] + data + old[offset + len(data) :]
        self.note()

    def sync(self):
        self.store.sync()
        self.promised = Promised(self.store.position)

    def checkpoint(self):
        """Make a checkpoint beside the writer, as the daemon lets another process do."""
        core = self.store._core
        assert core.checkpoints.make(core.log.stable)

    def compact(self, retention):
        """Compact the store; what that appends changes nothing."""
        self.remember()
        before = self.store.position
        for position in range(before, before + len(self.held) * 20):
            self.states[position] = dict(self.held)
        assert self.store.compact(Retention.parse(retention)) is None
        for position in range(self.store.position + 1, before + len(self.held) * 20):
            del self.states[position]
        self.note()
        self.promised = Promised(self.store.position)

    def squeeze(self):
        """Let go all that can go, as on a full disk: one checkpoint stays."""
        self.remember()
        core = self.store._core
        core.log.roll()
        kept = core.checkpoints.make(core.log.stable, Retention.parse("0"), lean=True)
        assert core.remove(kept.free, kept.snapshots, kept.stale)
        self.promised = Promised(self.store.position)

    def close(self):
        self.store.close()
        self.promised = Promised(self.store.position, closed=True)
        self.recorder.step()

    def reopen(self):
        self.close()
        self.store = self.open()

    def lose_empty_directories(self):
        """Go on as a copy of the store by a tool that leaves out empty directories."""
        self.close()
        for name in ("quarantine", "checkpoints"):
            if not self.disk.list(f"{STORE}/{name}"):
                self.disk.rmdir(f"{STORE}/{name}")
        self.disk.sync_directory(STORE)
        self.store = self.open()

    def die(self):
        """End without closing, as a killed process does, and start again."""
        self.disk.kill()
        self.store = self.open()


def half_made(steps):
    """Return a disk on which a process died after so many steps of making a store."""
    disk = ForgetfulDisk()
    left = steps

    def step():
        nonlocal left
        if left == 0:
            disk.watch = None
            raise KeyboardInterrupt
        left -= 1

    disk.watch = step
    with suppress(KeyboardInterrupt):
        kvfs.init(STORE, disk=disk)
    assert disk.watch is None, "the store was made"
    disk.kill()
    return disk


def hunt(session, *, again=0.0, most=1000):
    """Examine images of `session`, `most` of them; return how many, with those of recoveries."""
    images = session.recorder.images
    if len(images) > most:
        images = session.random.sample(images, most)
    return sum(examine(session, image, again=again) for image in images)


def replayed(disk, config):
    """Return the records of the log, as recovery reads them, by their numbers."""
    paths = LogPaths.of(STORE)
    begin = Checkpoints(disk, STORE, config).begin()
    directory = disk.open_directory(paths.segments)
    try:
        log = Replay(disk, paths, config, directory, begin.start)
        since = begin.start.sequence if begin.start else 0
        return dict(enumerate((record for record, _ in log.records()), since))
    finally:
        disk.close(directory)
        if begin.checkpoint:
            begin.checkpoint.close()


def log_files(disk, where="segments"):
    """Return the contents of the files in a directory of the store, by their names."""
    prefix = f"{STORE}/{where}/"
    found = disk.files()
    return {path.removeprefix(prefix): found[path] for path in found if path.startswith(prefix)}


def examine(session, image, *, again=0.0):
    """Open `image` and hold what is found against `session`.

    A share `again` of the steps of its recovery meets a second power cut. Return the
    number of images examined.
    """
    try:
        return _examine(session, image, again)
    except Exception as error:
        message = f"{image.origin}, {image.promised}: {error!r}"
        raise Violation(message) from error


def _examine(session, image, again):
    disk = image.disk
    disk.ignore = session.disk.ignore
    if image.promised.records < 0:
        try:
            kvfs.open(STORE, create=False, disk=disk)
            disk.kill()
        except kvfs.NotAStoreError:
            kvfs.init(STORE, format=session.form, max_segment_size=session.size, disk=disk)
    before = log_files(disk)
    if image.promised.closed and before:
        _check_closed(image)
    recorder = None
    if again:
        recorder = Recorder(
            disk,
            f"{image.origin} recovery",
            lambda: image.promised,
            checksums=session.checksums,
            many=1,
            share=again,
        )
    try:
        store = kvfs.open(STORE, create=False, disk=disk)
    except CorruptionError:
        if image.lenient:
            return 1
        raise
    finally:
        disk.watch = None
    position = _check(session, image, store, before)
    examined = 1
    for second in recorder.images if recorder else ():
        second.lenient |= image.lenient
        _check_kept(before, second.disk)
        examined += _examine(session, second, 0.0)
    _go_on(disk, position)
    session.disk.sites.update(disk.sites)
    return examined


def _check(session, image, store, before):
    """Check what `store`, just opened on `image`, holds; return the length of its log."""
    position = store.position
    assert position >= image.promised.records, f"only {position} records are left"
    assert position in session.states, f"{position} records are not what any call left"
    if session.log:
        records = replayed(store._core.disk, store.config)
        for number, record in records.items():
            # What a compaction appends comes before where the log begins after it.
            known = session.log.get(number, record if isinstance(record, Relocate) else None)
            assert record == known, "this is no prefix of the log"
    assert dict(store.items()) == session.states[position]
    assert list(audit(store._core.table)) == []
    _check_kept(before, store._core.disk)
    return position


def _check_closed(image):
    """Check that the end of a log that was closed is not taken for a torn one."""
    disk = image.disk.crash(Loss())
    path = max(path for path in disk.files() if path.endswith(".seg"))
    fd = disk.open(path, os.O_RDWR)
    disk.write(fd, b"?", disk.size(fd) - 1)
    disk.close(fd)
    try:
        kvfs.open(STORE, create=False, disk=disk)
    except CorruptionError:
        return
    raise AssertionError("damage after a close was taken for a torn end")


def _check_kept(before, disk):
    """Check that each byte of the segments `before` is in its place or in quarantine."""
    after, kept = log_files(disk), log_files(disk, "quarantine")
    for name, data in before.items():
        rest = after.get(name, b"")
        cuts = [len(data)]
        for copy, tail in kept.items():
            offset = int(copy.split(".")[2]) if copy.startswith(name) else None
            if offset is not None and tail == data[offset:]:
                cuts.append(offset)
        assert any(rest[:cut] == data[:cut] for cut in cuts), f"bytes of {name} are gone"


def _go_on(disk, position):
    """Check that a second open changes nothing, and that what is then synced is safe."""
    disk.kill()
    before = log_files(disk), log_files(disk, "quarantine")
    store = kvfs.open(STORE, create=False, disk=disk)
    assert (log_files(disk), log_files(disk, "quarantine")) == before, "it was changed again"
    assert store.position == position, "a second open finds another log"
    for number in range(2):
        store.put("later", bytes([65 + number]) * 300)
    store.sync()
    appended = store.position
    safe = disk.crash(Loss())
    disk.kill()
    for after in (safe, disk):
        store = kvfs.open(STORE, create=False, disk=after)
        assert store.position == appended, "what was appended and synced is not there"
        assert store.get("later") == b"B" * 300
        store.close()
