"""What kvfs is meant to reach, as ratios of times to those of a peer, or as figures of its own."""

from __future__ import annotations

from typing import NamedTuple

from works import ON_MOUNTS, of_group

BETTER_PASSTHROUGH = "passthrough_ll, the better"  # of its two modes, by the median


class Target(NamedTuple):
    """`work` is to take at most so many times what `against` takes, or at most so much itself."""

    work: str
    against: str | None
    at_most: float


def _juicefs() -> list[Target]:
    every = [work for group in ON_MOUNTS for work in of_group(group)]
    return [Target(w.key, "juicefs", 1.0 if w.group == "streams" else 0.25) for w in every]


TARGETS = (
    Target("create-100", "passthrough_ll", 0.40),
    Target("overwrite-100", "passthrough_ll", 0.40),
    Target("append-100", "passthrough_ll", 0.40),
    Target("read-again-100", "passthrough_ll", 0.60),
    Target("rename", "passthrough_ll", 0.50),
    Target("unlink", "passthrough_ll", 0.50),
    Target("unlink", "local", 0.80),
    Target("fsync-1", "local", 1.00),
    Target("fsync-8", "local", 0.60),
    Target("stat-again", "local", 1.3),
    Target("readdir-again", "local", 1.3),
    Target("stream-write", BETTER_PASSTHROUGH, 1.00),
    Target("stream-read-cold", "passthrough_ll", 1.10),
    *_juicefs(),
    Target("put", "rocksdict", 1.5),
    Target("get", "rocksdict", 1.5),
    Target("put", "sqlite3", 0.33),
    Target("get", "sqlite3", 0.5),
    Target("replay-record", None, 5.0),
    Target("memory-library", None, 400.0),
    Target("look-up", None, 20.0),
    Target("mount", None, 0.5),
    Target("memory-mount", None, 100.0),
    Target("idle", None, 0.1),
)
