"""What is measured of kvfs from within a process of its own: making a large store, opening it.

    python alone_client.py fill STORE KEYS
    python alone_client.py open STORE
    python alone_client.py look-up STORE KEYS

The answer is one line of JSON. The memory is that of the process once the store is open.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import kvfs
from kvfs.checkpoint import Checkpoint
from kvfs.disk import Disk
from kvfs.table import ROOT_INO

VALUE = b"v" * 100
_LOOKUPS = 20_000


def resident(pid: int | str = "self") -> int:
    """Return the bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no memory of process {pid}")


def fill(store: str, keys: int) -> dict[str, float]:
    with kvfs.open(store) as target:
        for number in range(keys):
            target.put(b"%016d" % number, VALUE)
        target.sync()
    return {}


def replay(store: str) -> dict[str, float]:
    start = time.perf_counter()
    source = kvfs.open(store, read_only=True)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "keys": len(source), "resident": resident()}


def look_up(store: str, keys: int) -> dict[str, float]:
    """Return the microseconds of a lookup: half of them of names, half of nodes."""
    config = kvfs.open(store, read_only=True).config
    (path,) = Path(store, "checkpoints").glob("*.ckp")
    checkpoint = Checkpoint.open(Disk(), str(path), config.id)
    draw = random.Random(1)
    names = [b"%016d" % draw.randrange(keys) for _ in range(_LOOKUPS)]
    start = time.perf_counter()
    for name in names:
        checkpoint.row(checkpoint.entry(ROOT_INO, name) or 0)
    return {"look-up": (time.perf_counter() - start) / _LOOKUPS / 2 * 1e6}


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        print(json.dumps(fill(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1] == "look-up":
        print(json.dumps(look_up(sys.argv[2], int(sys.argv[3]))))
    else:
        print(json.dumps(replay(sys.argv[2])))
