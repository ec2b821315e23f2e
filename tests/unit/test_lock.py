"""What the lock file says of the holder, and what is made of anything else in it."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

import kvfs
from kvfs.disk import Disk
from kvfs.store import lock
from kvfs.store.stat import stat as stat_of

NAMELESS = "a process that has not given its name"
HERE = os.getpid()
NOBODY = {
    "nothing": b"",
    "no text": b"\xff\xfe\0",
    "no JSON": b"{",
    "null": b"null",
    "a number": b"17",
    "a list": b"[1, 2]",
    "nested": b"[" * 60_000,
    "no pid": b'{"mountpoint": null}',
    "a pid of text": b'{"pid": "x", "mountpoint": null}',
    "a pid in text": b'{"pid": "%d", "mountpoint": null}' % HERE,
    "a broken pid": b'{"pid": %d.5, "mountpoint": null}' % HERE,
    "a true pid": b'{"pid": true, "mountpoint": null}',
    "pid -1": b'{"pid": -1, "mountpoint": null}',
    "pid 0": b'{"pid": 0, "mountpoint": null}',
    "a huge pid": b'{"pid": 1%s, "mountpoint": null}' % (b"0" * 4000),
    "a pid of more digits than Python takes": b'{"pid": 1%s}' % (b"0" * 5000),
    "a list of pids": b'{"pid": [%d], "mountpoint": null}' % HERE,
    "a process that is gone": b'{"pid": 4194303, "mountpoint": null}',
    "a beginning of text": b'{"pid": %d, "mountpoint": null, "started": "x"}' % HERE,
    "another beginning": b'{"pid": %d, "mountpoint": null, "started": 1}' % HERE,
    "a broken beginning": b'{"pid": %d, "mountpoint": null, "started": %d.0}'
    % (HERE, lock._beginning(HERE)),
    "a mountpoint of a number": b'{"pid": %d, "mountpoint": 5}' % HERE,
    "an empty mountpoint": b'{"pid": %d, "mountpoint": ""}' % HERE,
    "a relative mountpoint": b'{"pid": %d, "mountpoint": "mnt"}' % HERE,
    "a mountpoint that no path can be": b'{"pid": %d, "mountpoint": "/\\u0000"}' % HERE,
    "a mountpoint that no bytes are": b'{"pid": %d, "mountpoint": "/\\ud800"}' % HERE,
    "a failure of a list": b'{"pid": %d, "mountpoint": null, "failure": [1]}' % HERE,
    "a failure that no bytes are": b'{"pid": %d, "mountpoint": null, "failure": "\\udbff"}' % HERE,
    "mounted in words": b'{"pid": %d, "mountpoint": null, "mounted": "yes"}' % HERE,
    "too much": b" " * 70_000 + b'{"pid": %d, "mountpoint": null}' % HERE,
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.02)
    kvfs.init(tmp_path / "store")
    return str(tmp_path / "store")


@contextmanager
def held(path, content):
    """Hold the lock of the store at `path`, with `content` in the file."""
    with open(os.path.join(path, "lock"), "wb", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content)
        yield


@pytest.mark.parametrize("content", NOBODY.values(), ids=NOBODY)
def test_only_what_can_be_a_holder_is_believed(path, content):
    with held(path, content):
        holder = lock.holder_of(Disk(), path)
        assert (holder.pid, holder.mountpoint, holder.failure) == (0, None, None)
        assert str(holder) == NAMELESS
        with pytest.raises(kvfs.StoreLockedError, match=f"in use by {NAMELESS}$"):
            kvfs.open(path)
        assert stat_of(path).holder == holder
    assert lock.holder_of(Disk(), path) is None
    kvfs.open(path).close()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"started": None, "mounted": False, "failure": None},
        {"mountpoint": "/mnt/\udcff", "mounted": True, "failure": "why", "more": [1]},
    ],
)
def test_a_holder_is_believed(path, values):
    values = {"pid": HERE, "mountpoint": None, **values}
    with held(path, json.dumps(values).encode()):
        found = lock.holder_of(Disk(), path)._asdict()
    assert found == {**found, **{name: values[name] for name in found if name in values}}


def test_who_holds_a_store_that_cannot_be_written_is_seen(path):
    """The disk is read-only, or so is the file to who asks."""
    file = os.path.join(path, "lock")

    class ReadOnly(Disk):
        def open(self, path, flags, *, directory=None):
            assert flags & os.O_ACCMODE == os.O_RDONLY
            return super().open(path, flags, directory=directory)

    with kvfs.open(path):
        assert lock.holder_of(ReadOnly(), path).pid == HERE
    assert lock.holder_of(ReadOnly(), path) is None
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_stat_says_that_the_holder_has_no_name(path):
    def run(*args):
        command = [sys.executable, "-m", "kvfs", "stat", path, *args]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    with held(path, b"{}"):
        assert f"open for writing:  {NAMELESS}, since ".encode() in run()
        assert json.loads(run("--json"))["holder"]["pid"] == 0
    assert b"by nobody\n" in run()
    assert json.loads(run("--json"))["holder"] is None
