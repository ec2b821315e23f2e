"""What a session has done: requests by kind, their durations, errors, bytes.

Counting must cost next to nothing while nobody looks. So of many requests of a
kind one in `SAMPLE` is timed, and counts for all of those.
"""

from __future__ import annotations

import threading
from time import perf_counter_ns as _clock
from typing import Any

from kvfs.fuse import protocol
from kvfs.histogram import Histogram

SAMPLE = 61
"""The first so many requests of a kind are timed, and then one in so many. A prime, since what
clients do is periodic."""
_UNANSWERED = frozenset({protocol.FORGET, protocol.BATCH_FORGET, protocol.INTERRUPT})


class Counters:
    """Counts for one session; read them at any time, from any thread."""

    def __init__(self, sample: int = SAMPLE) -> None:
        """Time one in `sample` requests of a kind."""
        self.sample = sample
        self.requests = [0] * (max(protocol.REQUESTS) + 1)
        """How many there were, by opcode."""
        self.read_bytes = self.written_bytes = 0
        """Bytes of files that reads returned, and that writes brought."""
        self.pending: dict[int, tuple[int, int, int]] = {}
        """Requests that are being timed, by their number: opcode, weight, and when they began."""
        self._durations = [Histogram() for _ in self.requests]
        self._errors: dict[int, int] = {}
        self._lock = threading.Lock()

    def begin(self, opcode: int, unique: int) -> None:
        """Time the request `unique` until it is answered."""
        if opcode not in _UNANSWERED:
            weight = self.sample if self.requests[opcode] > self.sample else 1
            self.pending[unique] = opcode, weight, _clock()

    def end(self, unique: int) -> None:
        """Note that the request `unique`, if it is being timed, has its answer."""
        begun = self.pending.pop(unique, None)
        if begun:
            opcode, weight, start = begun
            took = _clock() - start
            with self._lock:
                self._durations[opcode].add(took, weight)

    def refuse(self, code: int) -> None:
        """Count an answer with the errno `code`."""
        with self._lock:
            self._errors[code] = self._errors.get(code, 0) + 1

    def by_kind(self) -> dict[str, dict[str, Any]]:
        """Return how many requests of each kind there were, and how long they took, by name.

        The time is from when a request was read until its answer was made.
        """
        return {
            name: {"count": count, **self._durations[opcode].figures()}
            for opcode, name in protocol.REQUESTS.items()
            if (count := self.requests[opcode])
        }

    def errors(self) -> dict[int, int]:
        """Return how many answers with each errno there were."""
        return self._errors.copy()
