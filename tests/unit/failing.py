"""A disk whose calls fail as planned, and a use of a store that goes on whatever is refused."""

import errno
import os
from collections import Counter
from contextlib import suppress

from forgetful import ForgetfulDisk
from losses import Loss
from outages import STORE

import kvfs
from kvfs.store.files import Owner

CALLS = [
    "open",
    "open_directory",
    "open_scratch",
    "size",
    "read",
    "write",
    "truncate",
    "sync",
    "sync_directory",
    "rename",
    "unlink",
    "mkdir",
    "list",
    "stat",
]
_SCARCE = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM)
_TAKING_BACK = ("truncate", "unlink", "sync_directory")


class FailingDisk(ForgetfulDisk):
    """Fails the calls of one name: the `nth` (from 1), and with `lasting` all that follow.

    A write that fails leaves half of its bytes. `failures` counts what has failed.
    """

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.failures = 0
        self._plan = None
        self._suspended = False

    def plan(self, name, nth, code, *, lasting=False):
        self.calls.clear()
        self._plan = (name, nth, code, lasting)

    @property
    def code(self):
        """The errno of what fails."""
        return self._plan[2]

    @property
    def is_fatal(self):
        """Whether the store has to stop, or may because a refused write cannot be taken back."""
        name, _, code, _ = self._plan
        return code not in _SCARCE or name in _TAKING_BACK or name == "sync"

    def heal(self):
        self._plan = None

    def good(self, call, *args):
        """Return what `call` returns while nothing fails, nor counts."""
        self._suspended = True
        try:
            return call(*args)
        finally:
            self._suspended = False

    def enter(self, name):
        """Count a call, and return the error that it is to fail with, if any."""
        if self._suspended:
            return None
        self.calls[name] += 1
        if self._plan is None or self._plan[0] != name:
            return None
        _, nth, code, lasting = self._plan
        if self.calls[name] == nth or (lasting and self.calls[name] > nth):
            self.failures += 1
            return OSError(code, os.strerror(code))
        return None

    def write(self, fd, data, offset):
        if error := self.enter("write"):
            super().write(fd, data[: len(data) // 2], offset)
            raise error
        super().write(fd, data, offset)


def _failing(name):
    true = getattr(ForgetfulDisk, name)

    def call(self, *args, **kwargs):
        if error := self.enter(name):
            raise error
        return true(self, *args, **kwargs)

    return call


for _name in set(CALLS) - {"write"}:
    setattr(FailingDisk, _name, _failing(_name))


class Use:
    """A use of a store through both of its interfaces.

    `held` is what was acknowledged. Each refusal is checked when it comes.
    """

    def __init__(self, disk, form, size=700):
        self.disk = disk
        self.form = form
        self.size = size
        self.held = {}
        self.maybe = []  # what may be there as well, of a store that has failed
        self.promised = {}  # what was synced
        self.touched = set()  # the keys that may have changed since
        self.refused = 0
        self.failed = False
        self.store = None

    def run(self):
        """Do everything, once; then end, and check what a good disk finds."""
        self._try(
            lambda: kvfs.init(STORE, format=self.form, max_segment_size=self.size, disk=self.disk)
        )
        for _ in range(2):
            self._open()
            if self.store is None:
                continue
            for step in self._steps():
                step()
                assert self.disk.good(self.items) == self.held, "readers see something else"
            self._close()
        self._examine()
        return self

    def items(self):
        return dict(self.store.items())

    # -- steps --------------------------------------------------------------------------

    def _steps(self):
        yield lambda: self._put(b"a", b"1")
        yield lambda: self._put(b"big", b"B" * (1500 if self.form == "binary" else 600))
        yield lambda: self._write(b"a", 1, b"in place")
        yield self._sync
        yield lambda: self._create(b"new", b"N" * 300)
        yield lambda: self._put(b"d/e", b"E" * 400)
        yield lambda: self._rename(b"a", b"d/a")
        yield lambda: self._orphan(b"new")
        yield lambda: self._put(b"d/e", b"F" * 500)
        yield lambda: self._read(b"big")
        yield lambda: self._attribute(b"d/e")
        yield lambda: self._delete(b"big")
        yield lambda: self._put(b"last", b"L")

    def _put(self, key, value):
        self._change(lambda: self.store.put(key, value), {**self.held, key: value})

    def _delete(self, key):
        rest = {name: self.held[name] for name in self.held if name != key}
        self._change(lambda: self.store.delete(key), rest)

    def _rename(self, old, new):
        if old in self.held:
            moved = {name: self.held[name] for name in self.held if name != old}
            self._change(lambda: self.store.rename(old, new), {**moved, new: self.held[old]})

    def _write(self, key, offset, data):
        if key in self.held:
            node = self.store._core.table.find(key)
            value = self.held[key][:offset] + data
            self._change(lambda: self._written(node, offset, data), {**self.held, key: value})

    def _create(self, name, data):
        files = self.store.files
        if name in self.held:
            return

        def create():
            self._written(files.create(1, name, Owner(1, 1, 0o644)), 0, data)

        self._change(create, {**self.held, name: data})

    def _written(self, node, offset, data):
        """Write to a file as the mount does, which gives up at the last close."""
        files = self.store.files
        files.opened(node.ino)
        try:
            files.content.write(node, offset, data)
            files.content.commit(node)
        except kvfs.KvfsError:
            files.give_up(node)
            raise
        finally:
            files.closed(node.ino)

    def _orphan(self, name):
        """Remove a file that is open, and write to it; nobody sees it but its user."""
        files = self.store.files
        node = files.lookup(1, name)
        if node is None:
            return
        files.opened(node.ino)
        self._delete(name)
        if name not in self.held:
            with suppress(OSError):
                files.content.write(node, 10, b"unseen")
        files.closed(node.ino)

    def _attribute(self, key):
        node = self.store._core.table.find(key)
        if node is not None:
            files = self.store.files
            self._change(lambda: files.setxattr(node, b"user.x", os.urandom(8)), dict(self.held))

    def _read(self, key):
        self.store._core._cache.clear()
        try:
            assert self.store.get(key) == self.held.get(key)
        except kvfs.KvfsError:
            assert self.disk.failures

    def _sync(self):
        if self._try(self.store.sync):
            self._promise()

    def _open(self):
        self.store = None
        self.failed = False

        def call():
            self.store = kvfs.open(STORE, create=False, disk=self.disk)

        if not self._try(call):
            assert self.disk.descriptors == 0, "a failed open leaves files open"
            self.store = None

    def _close(self):
        if self._try(self.store.close) and not self.failed:
            self._promise()
        assert self.disk.descriptors == 0, "a close leaves files open"
        self.store = None

    # -- refusals -------------------------------------------------------------------------

    def _promise(self):
        self.promised = dict(self.held)
        self.touched.clear()

    def _change(self, call, then):
        self.touched |= {key for key in {*self.held, *then} if self.held.get(key) != then.get(key)}
        if self._try(call):
            assert not self.failed, "a failed store has taken a change"
            self.held = then
        elif self.failed:
            self.maybe.append(then)

    def _try(self, call):
        """Call, and tell whether it was not refused; check how it was."""
        disk, was_failed = self.disk, self.failed
        syncs, failures = disk.calls["sync"], disk.failures
        try:
            call()
        except kvfs.KvfsError as error:
            refusal = error
        else:
            return True
        self.refused += 1
        assert disk.failures, f"refused without a reason: {refusal!r}"
        if isinstance(refusal, kvfs.StoreFailedError):
            self.failed = True
            assert refusal.errno == errno.EIO
            assert was_failed or disk.is_fatal, f"no reason to fail: {refusal!r}"
        elif disk.failures > failures:
            assert refusal.errno == disk.code, f"{refusal!r} has the wrong errno"
            assert str(refusal)
        if was_failed:
            assert disk.calls["sync"] == syncs, "an fsync was tried again"
        return False

    def _examine(self):
        """Open on a good disk, and after a power cut: what was acknowledged is there."""
        self.disk.good(self._look_back)

    def _look_back(self):
        self.disk.kill()
        after = self.disk.crash(Loss(names=True, data=True))
        try:
            store = kvfs.open(STORE, disk=after, format=self.form, max_segment_size=self.size)
        except kvfs.NotAStoreError:
            assert not self.held
            return
        found = dict(store.items())
        assert found == self.held or found in self.maybe
        store.put("more", "1")
        store.close()
        if self.promised:
            with kvfs.open(STORE, create=False, disk=self.disk.crash(Loss())) as store:
                for key in self.promised.keys() - self.touched:
                    assert store.get(key) == self.promised[key], "what was synced is not there"
