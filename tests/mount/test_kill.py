"""P1, P3 and P5 of docs/promises.md under kill -9: daemons die under load, again and again.

KVFS_KILLS says how many kills there are, 30 if it is not set. They are spread
over stores of `_PER_STORE` kills each, each store a test.
"""

import os
import random
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
from workload import ALL_SIZES, SMALL_SIZES, progressed, writers

from kvfs.control import ask_to_compact
from kvfs.errors import KvfsError

_KILLS = int(os.environ.get("KVFS_KILLS", "30"))
_PER_STORE = 6
_STORES = -(-_KILLS // _PER_STORE)
_WRITERS = 3
_BUSY = ["--checkpoint-every", "10", "--keep-history", "0"]
_BUSY += ["--compact-share", "0.1", "--compact-size", "4KiB"]
_LEAST = 20  # acknowledged operations, without which a kill shows nothing


@pytest.mark.parametrize("number", range(_STORES))
def test_what_was_acknowledged_survives_every_kill(stores, tools, number):
    rng = random.Random(number)
    form, sizes = [("binary", ALL_SIZES), ("text", SMALL_SIZES)][number % 2]
    # Every other binary store has checkpoints made and segments removed all the time, beside the
    # mount.
    options = _BUSY if number % 4 == 0 else []
    mounted = stores.make(form, size="64KiB", options=options)
    with (
        writers(mounted.path, stores.directory, _WRITERS) as working,
        _compacting(mounted.store) if options else nullcontext(),
    ):
        for turn in range(min(_PER_STORE, _KILLS - number * _PER_STORE)):
            for writer in working:
                writer.start(rng.randrange(2**40), sizes)
            tools.until(partial(progressed, working, rng.randint(_LEAST, 100)))
            _a_moment(rng, 0.02)
            mounted.kill()
            for writer in working:
                writer.join(tools.PATIENCE)
            assert mounted.records()
            if turn % 3 == 1:
                _kill_a_start(mounted, rng, tools)
                assert mounted.records()
            mounted.mount(*options)
            acknowledged = sum(writer.verify(clean=False) for writer in working)
            assert acknowledged >= _LEAST
    if options:
        assert not (mounted.store / "segments" / "00000001.seg").exists()


@contextmanager
def _compacting(store):
    """Let the daemon compact the store again and again, where there is one."""
    ending = threading.Event()

    def run():
        while not ending.is_set():
            try:
                ask_to_compact(str(store), "0", lambda _done, _total: None)
            except KvfsError:  # it has been killed
                ending.wait(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _a_moment(rng, longest):
    select.select([], [], [], rng.uniform(0, longest))


def _kill_a_start(mounted, rng, tools):
    """Kill a daemon while it replays the log, cuts its tail or begins to serve."""
    command = [sys.executable, "-m", "kvfs", "mount", "-f", mounted.store, mounted.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as daemon:
        tools.until(lambda: (mounted.holder() or {}).get("pid") == daemon.pid)
        _a_moment(rng, 0.15)
        daemon.kill()
        assert daemon.wait(tools.PATIENCE) == -signal.SIGKILL, daemon.stdout.read()
