"""The works of the libraries: puts, and then gets in another order from the store opened again.

    python library_works.py PEER PATH PAIRS

Run by the harness once per peer and round, in a process and a directory of their own; the answer is
one line of JSON, in microseconds each.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time

from library_peers import PEERS

VALUE = b"v" * 100


def measure(peer: str, path: str, pairs: int) -> dict[str, float]:
    """Put `pairs` values and get each once; keys come in no order, and in another when read."""
    chance = random.Random(5)
    keys = [b"%016x" % chance.getrandbits(64) for _ in range(pairs)]
    opened = PEERS[peer].opened
    store = opened(path)
    put = _put(store.put, keys)
    store.close()
    chance.shuffle(keys)
    store = opened(path)
    get = _get(store.get, keys)
    store.close()
    return {"put": put / pairs * 1e6, "get": get / pairs * 1e6}


def _put(put, keys: list[bytes]) -> float:
    value = VALUE
    start = time.perf_counter()
    for key in keys:
        put(key, value)
    return time.perf_counter() - start


def _get(get, keys: list[bytes]) -> float:
    total = 0
    start = time.perf_counter()
    for key in keys:
        total += len(get(key))
    seconds = time.perf_counter() - start
    if total != len(keys) * len(VALUE):
        sys.exit(f"{total} bytes were got instead of {len(keys) * len(VALUE)}")
    return seconds


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
