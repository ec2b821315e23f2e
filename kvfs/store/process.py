"""The process that makes a checkpoint beside a store that is open, as it is told.

It needs files only, may be killed at any time, and goes with the one that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, NamedTuple

from kvfs.disk import Disk
from kvfs.errors import FULL_DISK, in_words
from kvfs.retention import Retention
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.compaction import Fold, fold
from kvfs.store.keeping import Policy

_NICE = 10
_PR_SET_PDEATHSIG = 1
_FULL = 28
"""The exit status where the disk has no room."""


class Order(NamedTuple):
    """What a process is to do: see `fold`; with `nice`, when nobody else wants the processor."""

    until: tuple[int, int]
    policy: Policy
    retention: Retention | None = None
    twice: bool = False
    nice: bool = False
    lean: bool = False
    without: tuple[int, ...] = ()


class Process:
    """A process that makes a checkpoint, as it is told.

    `disk_full` tells of one that has ended whether that was why.
    """

    disk_full = False

    def __init__(self, path: str, order: Order) -> None:
        """Start it for the store at `path`, to do what `order` says. Raises what the system says."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-m", __name__, path, json.dumps(order), str(os.getpid())]
        # Not pipes, which would have to be read meanwhile.
        self._found: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_close`
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._found,
                stderr=self._said,
                env={**os.environ, "PYTHONPATH": paths},
            )
        except OSError:
            self._close()
            raise

    def outcome(self) -> Fold | str | None:
        """Return what it found, or why it did not; None if it is still at it."""
        if self._process.poll() is None:
            return None
        try:
            self._found.seek(0)
            self._said.seek(0)
            self.disk_full = self._process.returncode == _FULL
            if self._process.returncode == 0:
                return Fold.load(self._found)
            lines = self._said.read().decode(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line), "it was ended")
        except ValueError:
            return "somebody else is making one"
        finally:
            self._close()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._found.close()
        self._said.close()


def main(path: str, order: str, daemon: str) -> None:
    """Do to the store at `path` what `order`, in JSON, says, for the process `daemon`."""
    from kvfs.store.opening import read_config

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(daemon):
        return  # it has died before we could be told
    (segment, offset), policy, retention, twice, nice, lean, without = json.loads(order)
    if nice:
        os.nice(_NICE)
    disk = Disk()
    try:
        found = fold(
            Checkpoints(disk, path, read_config(path, disk)),
            (segment, offset),
            Policy(*policy),
            Retention(*retention) if retention else None,
            twice=twice,
            lean=lean,
            without=frozenset(without),
        )
    except OSError as error:
        sys.stderr.write(in_words(error) + "\n")
        sys.exit(_FULL if error.errno in FULL_DISK else 1)
    if found:
        found.dump(sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
