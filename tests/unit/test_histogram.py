"""Durations in buckets, and what can be told from those."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.histogram import BUCKETS, Histogram, bound, quantile


@pytest.mark.parametrize(
    ("nanoseconds", "bucket"),
    [(0, 0), (999, 0), (1000, 1), (1999, 1), (2000, 2), (10**6, 10), (10**12, BUCKETS - 1)],
)
def test_the_bucket_of_a_duration(nanoseconds, bucket):
    histogram = Histogram()
    histogram.add(nanoseconds, 3)
    assert histogram.buckets[bucket] == 3
    assert sum(histogram.buckets) == 3
    assert histogram.figures()["seconds"] == 3 * nanoseconds / 1e9
    assert len(histogram.figures()["buckets"]) == bucket + 1
    assert nanoseconds / 1e9 < bound(bucket)
    assert bucket == 0 or nanoseconds / 1e9 >= bound(bucket - 1) * 0.999


def test_an_empty_one():
    assert Histogram().figures() == {"seconds": 0.0, "buckets": []}
    assert quantile([], 0.5) is None
    assert quantile([0, 0], 0.5) is None


@given(
    st.lists(st.integers(0, 10**8), min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 0.99, 1.0])
)
def test_a_quantile_is_in_the_bucket_of_the_true_one(durations, share):
    histogram = Histogram()
    for nanoseconds in durations:
        histogram.add(nanoseconds)
    found = quantile(histogram.figures()["buckets"], share)
    rank = max(-(-share * len(durations) // 1), 1)
    true = sorted(durations)[int(rank) - 1]
    bucket = (true // 1000).bit_length()
    assert (bound(bucket - 1) if bucket else 0) <= found <= bound(bucket)


def test_what_takes_for_ever_has_a_quantile_all_the_same():
    assert quantile([0] * (BUCKETS - 1) + [1], 0.5) == bound(BUCKETS - 2)
