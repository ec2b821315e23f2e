"""The works of kvfs alone: replay, mount and memory of a large store, and an idle mount.

The store is made once in a sitting and read in every round; its files are in the cache of the
kernel. A copy of it that has lost its checkpoint is replayed.
Memory a key is what a process has with the large store open, less what it has with an empty one.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alone_client import resident
from mount_peers import KvfsPeer
from mounts import running
from processes import Failure, run

if TYPE_CHECKING:
    from works import Counts

_CLIENT = Path(__file__).resolve().with_name("alone_client.py")


class LargeStore:
    """A store of many keys and an empty one, made below `directory` when they are needed."""

    def __init__(self, directory: Path, keys: int) -> None:
        """Take the place; nothing is made yet."""
        self.keys = keys
        self._directory = directory
        self._large, self._empty = directory / "large", directory / "empty"
        self._bare = directory / "bare"

    def _fill(self) -> None:
        if not self._directory.exists():
            self._directory.mkdir()
            _python("fill", self._empty, 0)
            _python("fill", self._large, self.keys)
            shutil.copytree(self._large, self._bare)
            for checkpoint in (self._bare / "checkpoints").iterdir():
                checkpoint.unlink()

    def replay(self) -> dict[str, float]:
        """Open the store without a checkpoint in a fresh process, to read. Raises `Failure`."""
        self._fill()
        empty, large = _python("open", self._empty), _python("open", self._bare)
        if large["keys"] != self.keys:
            raise Failure(f"the large store has {large['keys']} keys instead of {self.keys}")
        return {
            "replay": large["seconds"],
            "replay-record": large["seconds"] / self.keys * 1e6,
            "memory-library": (large["resident"] - empty["resident"]) / self.keys,
        }

    def look_up(self) -> dict[str, float]:
        """Look up names and nodes at random in the checkpoint. Raises `Failure`."""
        self._fill()
        return _python("look-up", self._large, self.keys)

    def mount(self) -> dict[str, float]:
        """Mount the store, until it answers. Raises `Failure`."""
        self._fill()
        _, without = _mounted(self._empty)
        seconds, memory = _mounted(self._large)
        return {"mount": seconds, "memory-mount": (memory - without) / self.keys}


def _python(*words: object) -> dict[str, float]:
    return json.loads(run([sys.executable, _CLIENT, *words]))


def _mounted(store: Path) -> tuple[float, int]:
    """Return the seconds that it takes to mount `store`, and the daemon's memory then."""
    start = time.perf_counter()
    with running(KvfsPeer(), store) as place:
        seconds = time.perf_counter() - start
        memory = resident(place.daemon.pid)
    return seconds, memory


def idle(backing: Path, counts: Counts) -> dict[str, float]:
    """Return the percentage of a processor that a mount takes that nobody uses any more."""
    with running(KvfsPeer(), backing) as place:
        place.client("create", prefix="f", count=100, size=100)
        time.sleep(counts.settle)
        before, start = _processor_time(place.daemon.pid), time.perf_counter()
        time.sleep(counts.idle)
        used = _processor_time(place.daemon.pid) - before
        return {"idle": used / (time.perf_counter() - start) * 100}


def _processor_time(pid: int) -> float:
    """Return the seconds of processor time of a process, by its own clock."""
    return time.clock_gettime((~pid << 3) | 2)
