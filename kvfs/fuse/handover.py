"""Letting a thread share the CPU of whoever waits for it, as long as nobody else needs that.

A thread that answers small requests spends most of their time in waking and
being woken across CPUs. On the CPU of its client it takes half of that: one
sleeps as the other goes on. The kernel puts a thread that it wakes onto an idle
CPU, though, if there is one; and it takes for idle a CPU that runs nothing but
SCHED_IDLE (sched_idle_cpu in its kernel/sched/fair.c). So a thread that is
SCHED_IDLE, and bound to the CPU of its client, hands that over with each answer.

Such a thread is late where somebody else wants its CPU, and can starve. So it
makes itself a usual one again when requests do not come quickly any more, for
whatever reason. A process beside it does so, within some hundredths of a
second, when the thread waits for its CPU in vain, or has nothing to do. That
process holds nothing of the one that it serves, and ends with it. It looks
seldom: each look can move the client to another CPU.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import threading
import time
from contextlib import suppress
from typing import NoReturn

_INTERVAL = 0.02
"""Seconds between two looks at the thread."""
_QUIET = 2
"""After so many looks in a row at a thread that sleeps it is let go."""
_CROWDED = 2
"""More threads than ours and its client want to run: no time for this."""
_SHORT = 0.2
"""Seconds; what did not last longer was not worth it."""
_PENALTY = 1.0
"""Seconds for which a thread stays a usual one then, and after it has starved, at first."""
_MOST_PENALTY = 8.0
"""Then a try that fails, which costs one interval or two, takes less than half a per cent."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FREE, BOUND, _STARVED = range(3)
_STATE, _PROCESSOR = 0, 36  # of the words behind the name in /proc/PID/stat


class Handover:
    """Binds the thread that made it to the CPUs of its clients."""

    def __init__(self) -> None:
        """Start the process that looks after the thread. Raises `OSError` where that cannot be."""
        self.state = mmap.mmap(-1, mmap.PAGESIZE)
        """Its first byte tells: `BOUND` if the thread shares the CPU of a client now."""
        reading, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self.bound = 0
        """How many times the thread was bound."""
        self._usual = os.sched_getaffinity(0)
        self._cpu = -1
        self._penalty = _PENALTY
        self._not_before = self._since = 0.0
        thread = threading.get_native_id()
        # A signal must not hit the new process before it ignores them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._pid = os.fork()
        if self._pid == 0:
            _look_after(thread, self._usual, reading, self.state)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)

    def share(self, client: int) -> None:
        """Share the CPU that the thread `client` is on, unless there is a reason against it.

        Raises `OSError` or `ValueError` where the client is gone, or what the system says.
        """
        if not self._is_looked_after():
            self.release()
        elif self.state[0] == BOUND or self._may_bind():
            cpu = int(_stat(f"/proc/{client}")[_PROCESSOR])
            if cpu != self._cpu:
                os.sched_setaffinity(0, {cpu})
                self._cpu = cpu
            if self.state[0] != BOUND:
                self._since = time.monotonic()
                self.state[0] = BOUND
                self.bound += 1
                try:
                    os.write(self._pipe, b"b")
                    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                except OSError:
                    self.release()
                    raise

    def _may_bind(self) -> bool:
        now = time.monotonic()
        if self.state[0] == _STARVED:
            self.state[0] = _FREE
            self._punish(now)
        self._cpu = -1
        return now >= self._not_before and _crowd() <= _CROWDED

    def _punish(self, now: float) -> None:
        """Leave the thread alone for a while, longer each time."""
        self._not_before = now + self._penalty
        self._penalty = min(2 * self._penalty, _MOST_PENALTY)

    def release(self) -> None:
        """Be a usual thread again."""
        if self.state[0] == BOUND:
            self.state[0] = _FREE
            _let_go(0, self._usual)
            now = time.monotonic()
            if now - self._since < _SHORT:
                self._punish(now)
            else:
                self._penalty = _PENALTY

    def close(self) -> None:
        """End the process that looks after the thread, and wait for that."""
        os.close(self._pipe)
        if self._pid:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def _is_looked_after(self) -> bool:
        """Tell whether the process is there; it is not where the system forbids what it has to do."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        return self._pid != 0


def _look_after(thread: int, usual: set[int], pipe: int, shared: mmap.mmap) -> NoReturn:
    """Be the process beside the thread, until the pipe is closed."""
    try:
        # Ctrl-C goes to both; the one that serves knows what to do.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        directory = f"/proc/{os.getppid()}/task/{thread}"
        os.closerange(0, pipe)
        os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
        # Who may not come back from SCHED_IDLE must not go there.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        while os.read(pipe, 4096):
            result = _watch(directory, thread, pipe, shared)
            if shared[0] == BOUND:
                shared[0] = result
                _let_go(thread, usual)
    except OSError:
        pass
    finally:
        os._exit(0)


def _watch(directory: str, thread: int, pipe: int, shared: mmap.mmap) -> int:
    """Look at the thread while it is bound; return how it is to be then."""
    quiet = 0
    before = ""
    while shared[0] == BOUND and quiet < _QUIET:
        if select.select([pipe], [], [], _INTERVAL)[0] and not os.read(pipe, 4096):
            return _FREE
        os.sched_setaffinity(0, os.sched_getaffinity(thread))
        with open(f"{directory}/schedstat", encoding="ascii") as file:
            now = file.read()
        if now != before:
            quiet = 0
        elif _stat(directory)[_STATE] == "R":
            return _STARVED
        else:
            quiet += 1
        before = now
    return _FREE


def _let_go(thread: int, usual: set[int]) -> None:
    """Make `thread` (0: the one that calls) one like others, on the CPUs that it had."""
    with suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(thread, usual)


def _stat(directory: str) -> list[str]:
    """Return the words of a thread's stat behind its name, the state first."""
    with open(f"{directory}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _crowd() -> int:
    """Return how many threads of the machine want to run."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[3].partition("/")[0])
