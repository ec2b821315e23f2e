"""Readers of the log beside a mount that is being written to.

A writer goes through versions of a few values and tells, outside the mount,
which it has begun and which it has closed. A reader must find each value whole,
of a version from those closed before it began to those begun before it ended.
"""

import itertools
import os
import random
import re
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest
from processes import FORK

import kvfs

_READS = 30
_VERBS = 3
_MOST = 20_000


class Writer:
    """A process that writes versions; it stays `ahead` versions ahead of its readers."""

    def __init__(self, top):
        self.begun, self.closed = FORK.Value("q", 0), FORK.Value("q", 0)
        self._ahead = FORK.Semaphore(1)
        self._process = FORK.Process(target=self._write, args=(top,))
        self._process.start()

    def _write(self, top):
        os.chdir(top)
        rng = random.Random(0)
        for version in itertools.count(1):
            self._ahead.acquire()
            self.begun.value = version
            with open("emptied", "wb") as file:
                file.write(value(version, rng.randrange(_MOST)))
            with open("new", "wb") as file:
                file.write(value(version, rng.randrange(_MOST)))
            os.rename("new", "replaced")
            with open("appended", "ab") as file:
                file.write(b"%d\n" % version)
            os.mkdir(f"d{version}")
            with open(f"d{version}/made", "wb") as file:
                file.write(value(version, 100))
            with suppress(FileNotFoundError):
                os.unlink(f"d{version - 3}/made")
                os.rmdir(f"d{version - 3}")
            self.closed.value = version

    def go_on(self, versions):
        for _ in range(versions):
            self._ahead.release()

    def has_closed(self, version):
        return self.closed.value >= version

    def end(self):
        alive = self._process.is_alive()
        self._process.kill()
        self._process.join()
        assert alive, "the writer ended early"


def value(version, length):
    return b"%08d" % version * (1 + length // 8)


def version_of(data):
    """Return the version of a value, which must be whole."""
    assert data == data[:8] * (len(data) // 8), "a value is mixed"
    return int(data[:8])


@pytest.fixture(params=["binary", "text"])
def mounted(request, stores):
    """Return a mounted store that rolls often: most values of the binary store span segments."""
    return stores.make(request.param, size="16KiB" if request.param == "binary" else "64KiB")


@pytest.fixture
def writer(mounted, tools):
    made = Writer(mounted.path)
    tools.until(lambda: made.closed.value)
    yield made
    made.end()


def judge(found, low, high):
    """Hold what a reader `found` against the versions `low`, closed before, and `high`, begun."""
    versions = [version_of(found[key]) for key in (b"emptied", b"replaced")]
    assert low <= versions[1] <= versions[0] <= high
    assert versions[0] <= versions[1] + 1
    lines = found[b"appended"].split(b"\n")
    assert lines == [b"%d" % number for number in range(1, len(lines))] + [b""]
    assert versions[1] - 1 <= len(lines) - 1 <= versions[1]
    made = {int(key[1:-5]): version_of(data) for key, data in found.items() if key[:1] == b"d"}
    assert all(number == version for number, version in made.items())
    latest = versions[1]
    assert set(made) <= set(range(latest - 3, latest + 1))
    assert set(made) >= {number for number in (latest - 2, latest - 1) if number > 0}


def test_a_store_opened_for_reading_is_that_of_a_moment(mounted, writer, tools):
    for turn in range(_READS):
        writer.go_on(15)
        tools.until(partial(writer.has_closed, turn * 15 + 4))
        low = writer.closed.value
        with kvfs.open(mounted.store, read_only=True) as reader:
            high = writer.begun.value
            found = dict(reader.items())
            assert dict(reader.items()) == found
        found.pop(b"new", None)
        judge(found, low, high)


def test_reading_verbs_beside_a_writer(mounted, writer):
    for turn in range(_VERBS):
        writer.go_on(150)
        low = writer.closed.value
        get = mounted.cli("get", mounted.store, "emptied", ok=True)
        assert low <= version_of(get.stdout) <= writer.begun.value
        low = writer.closed.value
        keys = mounted.cli("list", mounted.store, ok=True).stdout.split()
        assert {b"appended", b"emptied", b"replaced"} <= set(keys)
        made = [int(match[1]) for key in keys if (match := re.fullmatch(rb"d(\d+)/made", key))]
        assert made == sorted(made, key=str)
        assert low - 2 <= min(made)
        assert max(made) <= writer.begun.value
        assert mounted.records() > turn
        mounted.cli("export", mounted.store, "-", ok=True)


def test_a_reader_from_before_reads_what_was_then(mounted, writer):
    """Values are read from the log as they are reached, long after the store has gone on."""
    code = (
        "import sys, kvfs\n"
        "with kvfs.open(sys.argv[1], read_only=True) as store:\n"
        "    print(len(store), flush=True)\n"
        "    sys.stdin.readline()\n"
        "    sys.stdout.buffer.write(store.get('emptied'))\n"
    )
    command = [sys.executable, "-c", code, mounted.store]
    low = writer.closed.value
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline()
        high = writer.begun.value
        writer.go_on(100)
        while writer.closed.value < high + 100:
            mounted.records()
        said, _ = reader.communicate(b"\n", timeout=20)
    assert reader.returncode == 0
    assert low <= version_of(said) <= high
