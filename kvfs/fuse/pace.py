"""How the session waits for the next request.

Mostly it sleeps in a read(2). But the time of a small request is spent in
waking: the client wakes the session, and the session the client. So while
requests come one after the other, the session either shares the CPU of its
client (see `handover`), where that may be done, or looks for the next request
for a while before it sleeps (busy poll, as network drivers have it). Where
there is one CPU only, sleeping is the fastest.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from kvfs.fuse.handover import BOUND, Handover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.fuse.session import Header

_SPIN = 100e-6
"""Seconds to look for a request before sleeping."""
_QUICK = 500e-6
"""Seconds from one answer to the next that make requests quick."""
_MANY = 61
"""After so many quick requests it is worth to share the CPU of the client; and to look for it. A
prime, since what clients do is periodic, and some requests tell no client."""
_PATIENCE = 3
"""So many requests may be slow before as many are quick again as it takes."""
_SMALL = 16 * 1024
"""Bytes; with larger requests it is good to work beside the client."""
_now = time.perf_counter


class Pace(Protocol):
    """What a session asks before each read.

    `polled` requests were there when it looked, so that nobody had to wake;
    before `shared` ones the CPU was left to the client; all others were slept for.
    """

    polled: int
    shared: int

    @property
    def handovers(self) -> int:
        """How many times the session went over to the CPU of a client."""

    def wait(self, last: Header) -> None:
        """Wait for a request, for a while at most, having answered `last`; then the read waits."""


class Sleep:
    """Waits in the read."""

    polled = shared = handovers = 0

    def wait(self, last: Header) -> None:
        """Return at once."""


class BusyPoll:
    """Looks for requests as long as they come quickly; asks for the CPU of who sends them."""

    def __init__(self, fd: int, handover: Handover | None) -> None:
        """Look at `fd`; with `handover`, ask there."""
        polled = select.poll()
        polled.register(fd, select.POLLIN)
        self._poll = polled.poll
        self._handover = handover
        self._state = handover.state if handover else b"\0"
        self._quick = self._slow = 0
        self._answered = 0.0
        self.polled = self.shared = 0

    @property
    def handovers(self) -> int:
        """How many times the thread went over to the CPU of a client."""
        return self._handover.bound if self._handover else 0

    def wait(self, last: Header) -> None:
        """Count quick requests in a row, and look for the next one."""
        now = _now()
        quick = now - self._answered < _QUICK and last.length < _SMALL
        self._answered = now
        self._quick = count = self._quick + 1 if quick else 0
        if not count % _MANY and self._handover is not None:
            self._attend(self._handover, last)
        if not count:
            return
        if self._state[0] == BOUND:  # only a read that sleeps hands over the CPU
            self.shared += 1
            return
        end = now + _SPIN
        while not self._poll(0):
            if _now() >= end:
                return
        self.polled += 1

    def _attend(self, handover: Handover, last: Header) -> None:
        """Decide whose CPU to share, if anybody's."""
        if self._quick:
            self._slow = 0
            if last.pid:
                # To be fast is worth nothing where descriptors or memory run out.
                with suppress(OSError, ValueError, MemoryError):
                    handover.share(last.pid)
        elif last.length >= _SMALL:
            handover.release()
        else:
            self._slow += 1
            if self._slow > _PATIENCE:
                handover.release()


class Pacing:
    """What of the pace must be there before anything large is in memory, since it forks."""

    def __init__(self, *, busy: bool, handover: Handover | None) -> None:
        """Be `busy` or not; hand over CPUs by `handover`, if that is given."""
        self._busy = busy
        self._handover = handover

    def at(self, fd: int) -> Pace:
        """Return how to wait for requests at `fd`."""
        return BusyPoll(fd, self._handover) if self._busy else Sleep()


@contextmanager
def prepare(*, busy: bool) -> Iterator[Pacing]:
    """Prepare a pace for this thread; unless `busy`, or with one CPU only, it just sleeps."""
    busy = busy and len(os.sched_getaffinity(0)) > 1
    handover = None
    if busy:
        with suppress(OSError):
            handover = Handover()
    try:
        yield Pacing(busy=busy, handover=handover)
    finally:
        if handover:
            handover.close()
