"""P6 of docs/promises.md: of many who want to write one store, one does, the others hear who."""

import os
import re
import signal
from contextlib import contextmanager
from functools import partial

from processes import FORK, Together

import kvfs
from kvfs import daemon
from kvfs.disk import Disk
from kvfs.serving import MountOptions

_RACES = 50
_RACES_OF_DAEMONS = 30
_WRITERS = 5


def write(store, release, say):
    """Open the store and hold it until `release` is set; say who holds it."""
    try:
        opened = kvfs.open(store)
    except kvfs.StoreLockedError as error:
        say(("refused", str(error)))
        return
    say(("won", os.getpid()))
    release.wait()
    opened.close()


def mount(store, mountpoint, release, say):
    """Mount the store until `release` is set; say who holds it."""
    try:
        pid = daemon.start(store, mountpoint, MountOptions())
    except kvfs.KvfsError as error:
        say(("refused", str(error)))
        return
    say(("won", pid))
    release.wait()
    daemon.unmount(mountpoint, Disk())


def judge(outcomes):
    """Exactly one has won, and everybody else was told its pid; return that."""
    winners = [word for kind, word in outcomes if kind == "won"]
    assert len(winners) == 1, outcomes
    told = {int(re.search(r"in use by process (\d+)", w)[1]) for k, w in outcomes if k != "won"}
    assert told == set(winners), outcomes
    return winners[0]


def race(works, release):
    """Let all try at once, and the winner let go once everybody else was refused."""
    release.clear()
    with Together(works) as racers:
        judge(racers.said())
        release.set()
        assert racers.said() == [None] * len(works)


def test_many_writers_at_once(tmp_path):
    store = str(tmp_path / "store")
    kvfs.open(store).close()
    release = FORK.Event()
    for _ in range(_RACES):
        race([partial(write, store, release)] * _WRITERS, release)


@contextmanager
def killed_holder(store):
    """Kill a process that holds the store; its parent has not noticed yet, so its pid is taken."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kvfs.open(store)
            os.write(writing, b"held")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            assert pipe.read(4) == b"held"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        yield
    finally:
        os.waitpid(pid, 0)


def test_many_writers_after_a_holder_was_killed(tmp_path):
    """The name of the dead is in the lock file until the next has written its own."""
    store = str(tmp_path / "store")
    kvfs.open(store).close()
    release = FORK.Event()
    for _ in range(_RACES):
        with killed_holder(store):
            race([partial(write, store, release)] * _WRITERS, release)


def test_daemons_and_writers_at_once(stores):
    mounted = stores.make(mount=False)
    store = str(mounted.store)
    mountpoints = [stores.directory / f"mnt{number}" for number in range(3)]
    for mountpoint in mountpoints:
        mountpoint.mkdir()
    release = FORK.Event()
    for _ in range(_RACES_OF_DAEMONS):
        works = [partial(mount, store, str(place), release) for place in mountpoints]
        works += [partial(write, store, release)] * 2
        race(works, release)
        assert mounted.holder() is None


def test_a_second_daemon_is_refused_while_the_first_recovers(stores):
    """It does not wait for a mount that is only about to begin, as for one that ends."""
    mounted = stores.make(mount=False)
    for number in range(2):
        (stores.directory / f"mnt{number}").mkdir()
    with kvfs.open(mounted.store, mountpoint=str(stores.directory / "mnt0")):
        release = FORK.Event()
        work = partial(mount, str(mounted.store), str(stores.directory / "mnt1"), release)
        with Together([work]) as second:
            ((kind, word),) = second.said()
        assert kind == "refused"
        assert f"process {os.getpid()}" in word
