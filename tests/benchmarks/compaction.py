"""What compaction costs and gives back: python tests/benchmarks/compaction.py [--records N].

Each case writes to a store of its own, from one thread, as fast as it goes. Printed are, in bytes,
the most that the segments took and what lives; how much was written to the log for each byte that
somebody put (write amplification); the time of a put in the median, and of the slowest.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from kvfs.store.opening import init, open_store
from kvfs.units import show_size

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = 300
LOOK = 20_000  # puts between two looks at the size


class Case(NamedTuple):
    """Keys that are there before, and which one the put number n is of."""

    name: str
    keys: int
    history: str
    choose: Callable[[random.Random, int], int]


CASES = [
    Case("one hot key", 1, "0", lambda _draw, _keys: 0),
    Case(
        "one hot key among 100,000, 10% of the puts elsewhere",
        100_000,
        "0",
        lambda draw, keys: draw.randrange(keys) if draw.random() < 0.1 else 0,
    ),
    Case("300,000 keys at random", 300_000, "0", lambda draw, keys: draw.randrange(keys)),
    Case(
        "300,000 keys at random, 100 MiB of history",
        300_000,
        "100MiB",
        lambda draw, keys: draw.randrange(keys),
    ),
]


def size_of(path: str) -> int:
    """Return the bytes of all segments."""
    total = 0
    for entry in os.scandir(os.path.join(path, "segments")):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def measure(case: Case, records: int, path: str) -> None:
    """Run `case` and print what it took."""
    init(path, keep_history=case.history)
    draw = random.Random(1)
    times: list[float] = []
    most = 0
    with open_store(path) as store:
        before = store._core.log.written
        put = 0
        for number in range(case.keys):
            store.put(b"key %d" % number, b"%0*d" % (VALUE, number))
        for number in range(records):
            key = b"key %d" % case.choose(draw, case.keys)
            value = b"%0*d" % (VALUE, number)
            start = time.perf_counter()
            store.put(key, value)
            times.append(time.perf_counter() - start)
            if number % LOOK == 0:
                most = max(most, size_of(path))
        put = (case.keys + records) * (VALUE + 26 + len(b"key 100000"))
        written = store._core.log.written - before
        live = sum(store.live().values())
    times.sort()
    click.echo(
        f"{case.name}: at most {show_size(most)} for {show_size(live)} alive,"
        f" write amplification {written / put:.2f},"
        f" a put {times[len(times) // 2] * 1e6:.1f} us, the slowest {times[-1] * 1e3:.0f} ms,"
        f" {records / sum(times):,.0f} puts a second"
    )


@click.command()
@click.option("--records", default=3_000_000, show_default=True)
def main(records: int) -> None:
    """Measure each case."""
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory:
            measure(case, records, os.path.join(directory, "store"))


if __name__ == "__main__":
    main()
