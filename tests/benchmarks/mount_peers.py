"""The peers on mounts, except JuiceFS: kvfs, passthrough_ll twice, and a local directory."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import passthrough
from juicefs_peer import JuiceFsPeer
from mounts import MountPeer, Place, last_line
from processes import Daemon, Failure, is_mounted, run, until

KVFS = [sys.executable, "-m", "kvfs"]


class KvfsPeer(MountPeer):
    """kvfs as `kvfs mount` starts it."""

    key = "kvfs"
    title = "kvfs"
    settings = "`kvfs init`, `kvfs mount`: a binary store, durability fsync"

    def prepare(self, tools: Path) -> None:
        run([*KVFS, "init", tools / "kvfs-probe"])

    def start(self, place: Place) -> None:
        if not (place.backing / "store.toml").exists():
            run([*KVFS, "init", place.backing])
        run([*KVFS, "mount", place.backing, place.path])
        place.daemon = Daemon(json.loads((place.backing / "lock").read_text())["pid"])

    def stop(self, place: Place) -> None:
        self.end_mount(place)


@dataclass
class PassthroughPeer(MountPeer):
    """passthrough_ll, the example of libfuse in C, over a directory of the local file system."""

    key: str = "passthrough_ll"
    title: str = "passthrough_ll"
    options: str = "cache=always"
    program: Path = field(default_factory=Path)

    @property
    def settings(self) -> str:
        return f"the example of libfuse, `gcc -O2`, `-o source=DIR,{self.options}`"

    def prepare(self, tools: Path) -> None:
        self.program = passthrough.build(tools)

    def start(self, place: Place) -> None:
        options = f"source={place.backing},{self.options}"
        log = place.path.with_name(f"{place.path.name}.log")
        place.daemon = daemon = Daemon.start([self.program, "-f", "-o", options, place.path], log)
        until(lambda: is_mounted(place.path) or daemon.ended(), f"{self.title} mounts")
        if daemon.ended():
            raise Failure(f"{self.title} does not mount: {last_line(log)}")
        os.statvfs(place.path)

    def stop(self, place: Place) -> None:
        self.end_mount(place)


def peers() -> list[MountPeer]:
    """Return all peers on mounts, kvfs first."""
    return [
        KvfsPeer(),
        PassthroughPeer(),
        PassthroughPeer("passthrough_ll-writeback", "+ writeback", "cache=always,writeback"),
        JuiceFsPeer(),
        MountPeer(),
    ]
