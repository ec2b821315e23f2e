"""What the mount tests share: stores mounted by the real daemon, and nothing left of them.

A daemon is known by a pidfd, taken from the pid in the store's lock file, so
that neither a wait nor a kill can hit another process. Whatever a test does,
the watchdog kills the daemons of a test that hangs, which frees its calls, and
the teardown ends every mount and process below the test's directory.
"""

import ctypes
import json
import os
import select
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

HANG = float(os.environ.get("KVFS_HANG", "90"))  # seconds until the watchdog ends a test's daemons
PATIENCE = 20.0  # seconds for what must happen soon


_MNT_DETACH = 2
_libc = ctypes.CDLL(None)


def until(condition, seconds=PATIENCE):
    """Return the first true value of `condition()`; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {condition}")
        select.select([], [], [], 0.005)
    return value


def mounts_below(directory):
    """Return the mountpoints below `directory`, the latest first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            if Path(path).is_relative_to(directory):
                found.append(path)
    return found[::-1]


class Daemon:
    """A process that serves a mount."""

    def __init__(self, pid):
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def ended(self, seconds=0.0):
        """Tell whether the process has ended, at the latest after `seconds`."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def send(self, number):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self):
        os.close(self._fd)


class Mounted:
    """A store and its mountpoint, below one directory of a test."""

    def __init__(self, stores, directory, form, size):
        self._stores = stores
        self.store = directory / "store"
        self.path = directory / "mnt"
        self.form = form
        self.daemon = None
        self.quiet = True
        directory.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()
        init = ["init", "--format", form, *(["--max-segment-size", str(size)] if size else [])]
        self.cli(*init, self.store, ok=True)

    def cli(self, *args, **kwargs):
        return self._stores.cli(*args, **kwargs)

    def mount(self, *options):
        self.cli("mount", *options, self.store, self.path, ok=True)
        self.daemon = self._stores.adopt(self.store)
        return self

    def umount(self):
        """Unmount as an administrator does, and wait for the daemon."""
        subprocess.run(["umount", str(self.path)], check=True, timeout=PATIENCE)
        assert self.daemon.ended(PATIENCE), "the daemon outlived its mount"

    def remount(self):
        self.umount()
        return self.mount()

    def kill(self):
        """End the daemon with SIGKILL; its mount stays behind, stale."""
        self.daemon.send(signal.SIGKILL)
        assert self.daemon.ended(PATIENCE)

    def segments(self):
        """Return the bytes of all segments, in order."""
        return b"".join(file.read_bytes() for file in sorted((self.store / "segments").iterdir()))

    def lines(self):
        """Return the lines of the log of a text store."""
        return self.segments().splitlines()

    def records(self):
        """Return how many records `kvfs check` counts; the store must be sound."""
        done = self.cli("check", self.store, ok=True)
        return int(done.stdout.split(b"sound: ")[1].split()[0])

    def holder(self):
        """Return what the lock file says, or None if nobody holds the store."""
        text = (self.store / "lock").read_text()
        return json.loads(text) if text else None

    def log(self):
        with suppress(FileNotFoundError):
            return (self.store / "daemon.log").read_text()
        return ""

    def run(self, script, **kwargs):
        return run(script, self.path, **kwargs)


def run(script, cwd, *, input=None, shell="bash"):
    """Run a shell script in `cwd` and return its stdout; it must succeed."""
    done = subprocess.run(
        [shell, "-c", f"umask 022; set -e\n{script}"],
        cwd=cwd,
        check=False,
        input=input,
        capture_output=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )
    assert done.returncode == 0, f"{script}\n-> {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout


class Stores:
    """Makes stores below one directory and leaves nothing of them."""

    def __init__(self, directory):
        self.directory = directory
        self._daemons = []
        self._mounted = []

    def make(self, form="binary", *, size=None, name="", mount=True, options=()):
        mounted = Mounted(self, self.directory / name, form, size)
        self._mounted.append(mounted)
        return mounted.mount(*options) if mount else mounted

    def adopt(self, store):
        """Return the process that the lock file of `store` names."""
        daemon = Daemon(json.loads((Path(store) / "lock").read_text())["pid"])
        self._daemons.append(daemon)
        return daemon

    @staticmethod
    def cli(*args, ok=False, fails=None, stdin=b"", **kwargs):
        """Run `python -m kvfs`. With `fails`, it must exit with that, and say why in one line."""
        done = subprocess.run(
            [sys.executable, "-m", "kvfs", *args],
            check=False,
            input=stdin,
            capture_output=True,
            timeout=60,
            **kwargs,
        )
        shown = f"kvfs {shlex.join(map(os.fsdecode, args))} -> {done.returncode}: {done.stderr!r}"
        if ok:
            assert (done.returncode, done.stderr) == (0, b""), shown
        if fails is not None:
            assert done.returncode == fails, shown
            assert done.stderr.startswith(b"kvfs: "), shown
            assert done.stderr.count(b"\n") == 1, shown
            assert done.stderr.endswith(b"\n"), shown
        return done

    def end_all(self):
        """Kill every daemon and end every mount, without asking a mount for anything."""
        for daemon in self._daemons:
            daemon.send(signal.SIGKILL)
        for path in mounts_below(self.directory):
            _libc.umount2(os.fsencode(path), _MNT_DETACH)
        for lock in self.directory.rglob("lock"):
            with suppress(OSError, ValueError, KeyError):
                self.adopt(lock.parent).send(signal.SIGKILL)

    def finish(self):
        """End cleanly what still runs, then by force, and fail if anything was amiss."""
        complaints = []
        for mounted in self._mounted:
            daemon = mounted.daemon
            if daemon and not daemon.ended():
                subprocess.run(
                    ["umount", mounted.path], check=False, capture_output=True, timeout=PATIENCE
                )
                if not daemon.ended(PATIENCE):
                    complaints.append(f"daemon {daemon.pid} does not end")
            if mounted.quiet and (bad := _remarkable(mounted.log())):
                complaints.append(f"the daemon logged: {bad}")
        self.end_all()
        complaints += [f"process {d.pid} is left" for d in self._daemons if not d.ended(PATIENCE)]
        complaints += [f"mount {path} is left" for path in mounts_below(self.directory)]
        for daemon in self._daemons:
            daemon.close()
        assert not complaints, complaints


def _remarkable(log):
    """Return the lines of a daemon's log that a good day does not have."""
    usual = ("] mounted", "] unmounted", "] ending on signal ")
    return [line for line in log.splitlines() if not any(word in line for word in usual)]


def tree(top):
    """Return what is below `top`: type, mode, links, size and content of each path."""
    found = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            content = size = None
            if stat.S_ISREG(info.st_mode):
                size = info.st_size
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                size, content = info.st_size, os.readlink(path)
            where = os.path.relpath(path, os.fsencode(top))
            found[where] = (
                oct(info.st_mode),
                info.st_nlink,
                info.st_uid,
                info.st_gid,
                size,
                content,
            )
    return found


@pytest.fixture(scope="session", autouse=True)
def _fuse():
    if not os.path.exists("/dev/fuse"):
        pytest.exit("there is no /dev/fuse, and the mount tests need it", returncode=1)


@contextmanager
def stores_below(directory):
    """Give the maker of stores below `directory`, which must be a test's own."""
    made = Stores(directory)
    watchdog = threading.Timer(HANG, made.end_all)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield made
    finally:
        watchdog.cancel()
        watchdog.join()
        made.finish()


@pytest.fixture
def stores(tmp_path):
    """Return the maker of stores below `tmp_path`."""
    with stores_below(tmp_path) as made:
        yield made


@pytest.fixture(params=["binary", "text"])
def mounted(request, stores):
    """Return a mounted store of each format."""
    return stores.make(request.param)


@pytest.fixture
def binary(stores):
    """Return a mounted binary store."""
    return stores.make("binary")


@pytest.fixture
def text(stores):
    """Return a mounted text store."""
    return stores.make("text")


@pytest.fixture(scope="session")
def tools():
    """Return this module, for the helpers in it that are no fixtures."""
    return sys.modules[__name__]
