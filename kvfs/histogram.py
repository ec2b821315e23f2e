"""Durations counted in buckets, each twice as wide as the one before.

Bucket 0 has those below one microsecond, bucket N those below 2**N
microseconds, and the last all that took longer.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKETS = 26
"""Of a histogram; the last has what took 2**24 microseconds (17 seconds) or more."""


class Histogram:
    """How many durations there were, how long they took in all, and how they are spread."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        """Start with none."""
        self.buckets = [0] * BUCKETS
        self.total = 0
        """Nanoseconds."""

    def add(self, nanoseconds: int, weight: int = 1) -> None:
        """Count a duration, `weight` times: one that stands for so many."""
        self.buckets[min((nanoseconds // 1000).bit_length(), BUCKETS - 1)] += weight
        self.total += nanoseconds * weight

    def figures(self) -> dict[str, Any]:
        """Return the sum in seconds, and the buckets without the empty ones at the end."""
        buckets = self.buckets.copy()
        while buckets and not buckets[-1]:
            buckets.pop()
        return {"seconds": self.total / 1e9, "buckets": buckets}


def bound(bucket: int) -> float:
    """Return the seconds below which the durations of `bucket` are."""
    return float("inf") if bucket >= BUCKETS - 1 else (1 << bucket) / 1e6


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Return about how many seconds a `share` of the durations took at most; None if there are none.

    Within a bucket they are taken to be spread evenly.
    """
    below = list(accumulate(buckets))
    if not below or not below[-1]:
        return None
    rank = share * below[-1]
    bucket = next(number for number, count in enumerate(below) if count and count >= rank)
    low = (1 << bucket) / 2e6 if bucket else 0.0
    high = bound(min(bucket, BUCKETS - 2))
    part = (rank - (below[bucket] - buckets[bucket])) / buckets[bucket]
    return low + (high - low) * max(part, 0.0) if high > low else low
