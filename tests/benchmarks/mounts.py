"""What a peer on a mount is, and how one runs.

A peer knows how it is started on a fresh directory, stopped, and started again; a `Place` is where
it runs once: its backing directory, the directory that a client sees, and its processes. What a
peer needs and cannot have is a `Failure` of `prepare`. One peer runs at a time.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from processes import Daemon, Failure, detach, end_marked, is_mounted, run, unmount
from scratch import drop_caches, evict

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLIENT = Path(__file__).resolve().with_name("client.py")


@dataclass
class Place:
    """Where a peer runs: `path` is what clients see, `backing` is what it keeps its files in."""

    peer: MountPeer
    backing: Path
    path: Path
    daemon: Daemon | None = None  # serves the mount
    helper: Daemon | None = None  # outlives a remount

    def client(self, operation: str, *, folder: str = "", **asked: object) -> float:
        """Return the seconds that a client takes for an operation in `folder`. Raises `Failure`."""
        request = json.dumps({"directory": str(self.path / folder), **asked})
        out = run([sys.executable, "-I", _CLIENT, operation], text=request)
        return float(out)

    def renew(self) -> None:
        """Mount again and forget what is cached, so that what is asked next comes from the disk."""
        self.peer.stop(self)
        self.peer.start(self)
        if not drop_caches():
            evict(self.backing)

    def abandon(self) -> None:
        """End by force all that runs, without asking the mount for anything."""
        if is_mounted(self.path):
            detach(str(self.path))
        end_marked()


class MountPeer:
    """A peer; this one is a directory of the local file system."""

    key = "local"
    title = "local"
    settings = "a directory of the local file system, no FUSE"

    def prepare(self, tools: Path) -> None:
        """Get what is needed, below `tools`. Raises `Failure`."""

    def start(self, place: Place) -> None:
        """Serve `place.backing` at `place.path`, also again after a stop. Raises `Failure`."""
        place.path = place.backing

    def stop(self, place: Place) -> None:
        """End the mount; what was written is kept. Raises `Failure`."""

    def finish(self, place: Place) -> None:
        """End what outlives a stop. Raises `Failure`."""

    @staticmethod
    def end_mount(place: Place) -> None:
        """Unmount and wait for the daemon. Raises `Failure`."""
        unmount(place.path)
        daemon, place.daemon = place.daemon, None
        if daemon is not None and not daemon.end():
            raise Failure(f"the daemon {daemon.pid} of {place.peer.title} outlived its mount")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


@contextmanager
def running(peer: MountPeer, backing: Path) -> Iterator[Place]:
    """Run a peer on the directory `backing`, and end it, by force if anything goes wrong."""
    path = backing.with_name(f"{backing.name}.mnt")
    path.mkdir(exist_ok=True)
    place = Place(peer, backing, path)
    try:
        peer.start(place)
        yield place
        peer.stop(place)
        peer.finish(place)
    except BaseException as error:
        place.abandon()
        if isinstance(error, OSError):
            raise Failure(f"{error.strerror or error}: {error.filename or path}") from error
        raise
