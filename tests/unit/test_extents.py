import random

from kvfs.records import Location
from kvfs.table import Extent
from kvfs.table.content import cut, overlay, within


def test_extents_behave_as_bytes_do():
    rng = random.Random(5)
    for _ in range(300):
        extents, expected = [], {}
        for turn in range(12):
            start, length = rng.randrange(30), rng.randrange(1, 12)
            if rng.random() < 0.25:
                cut(extents, start)
                expected = {at: what for at, what in expected.items() if at < start}
                continue
            overlay(extents, Extent(start, length, Location(turn, 0, 0), 0))
            expected |= {at: (turn, at - start) for at in range(start, start + length)}
        assert _bytes_of(extents) == expected
        low, high = sorted(rng.sample(range(42), 2))
        part = {at: what for at, what in expected.items() if low <= at < high}
        assert _bytes_of(within(extents, low, high)) == part


def _bytes_of(extents):
    found, end = {}, 0
    for extent in extents:
        assert extent.length > 0
        assert extent.start >= end
        end = extent.end
        found |= {
            extent.start + at: (extent.location.segment, extent.skip + at)
            for at in range(extent.length)
        }
    return found
