"""Checkpoints beside a mount: made by a process of their own, which leaves the daemon alone.

What it needs is in files, so it is told no more than where the store is and how
far the log is on stable storage. It may be killed at any time, and goes with the
daemon.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from kvfs.disk import Disk
from kvfs.errors import in_words
from kvfs.store.checkpoints import Checkpoints, due_in_background

if TYPE_CHECKING:
    from kvfs.store.core import Core

_NICE = 10
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)


class Background:
    """Makes the checkpoints of an open store, one at a time, as they come due."""

    def __init__(self, core: Core) -> None:
        """Look after `core`, which is open for writing."""
        self._core = core
        self._made = core.checkpointed
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes]
        """What it has to say, while there is one."""
        self._wanted = self._made  # records that the one in the making is to cover

    def tick(self) -> None:
        """See to the process that is at it, or start one if a checkpoint is due; never waits."""
        if self._process is not None:
            if self._process.poll() is not None:
                self._end()
            return
        core = self._core
        due = core.checkpoint_every or due_in_background(core.table.values)
        if not core.checkpoints.possible or core.log.synced - self._made < due:
            return
        # What is noted may be less than what is stable by then, and is made up for with the next.
        wanted = core.log.synced
        segment, offset = core.log.stable
        if segment:
            self._wanted = wanted
            self._start(segment, offset)

    def stop(self) -> None:
        """End the process, if one is at it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._said.close()

    def _start(self, segment: int, offset: int) -> None:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-m", __name__, self._core.path]
        try:
            # Not a pipe, which would have to be read meanwhile.
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_end`
            self._process = subprocess.Popen(  # noqa: S603 - our own
                [*command, str(segment), str(offset), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError as error:
            self._made = self._wanted  # not at every tick
            _log.warning("no checkpoint was made: %s", error)

    def _end(self) -> None:
        """Take note of what a process that has ended says."""
        assert self._process is not None
        if self._process.wait():
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").split("\n")
            reason = next((line for line in reversed(lines) if line), "it was ended")
            _log.warning("no checkpoint was made: %s", reason)
        self._said.close()
        self._process = None
        self._made = self._wanted


def main(path: str, segment: str, offset: str, daemon: str) -> None:
    """Make a checkpoint of the store at `path` up to `offset` in `segment`, for the process `daemon`."""
    from kvfs.store.opening import read_config

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(daemon):
        return  # it has died before we could be told
    os.nice(_NICE)
    disk = Disk()
    try:
        Checkpoints(disk, path, read_config(path, disk)).make((int(segment), int(offset)))
    except OSError as error:
        sys.exit(in_words(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
