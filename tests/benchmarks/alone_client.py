"""What is measured of kvfs from within a process of its own: making a large store, opening it.

    python alone_client.py fill STORE KEYS
    python alone_client.py open STORE

The answer is one line of JSON. The memory is that of the process once the store is open.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import kvfs

VALUE = b"v" * 100


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


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        print(json.dumps(fill(sys.argv[2], int(sys.argv[3]))))
    else:
        print(json.dumps(replay(sys.argv[2])))
