"""Checkpoints and compaction beside the store's other work, without leaving it waiting.

What needs files only is done by a process of its own: it is told no more than where
the store is and how far the log is on stable storage, may be killed at any time,
and goes with the one that has the store open. What must go through the log is
done here, a little at a time.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.errors import KvfsError, in_words
from kvfs.retention import Retention
from kvfs.store.checkpoints import Checkpoints, due_in_background
from kvfs.store.compaction import IN_USE, THOROUGH, Fold, Mover, Policy, fold, remove_segments
from kvfs.store.reserve import LEAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.store.core import Core

_NICE = 10
_PR_SET_PDEATHSIG = 1
_SLICE = 0.002
"""Seconds for which others wait while something is moved."""
_PAUSE = 0.008
"""Seconds between two slices."""
_IDLE = 1.0
_SOON = 0.02
_LOW = 512 * 1024 * 1024
"""Bytes: with so few left, or a twentieth, a disk is nearly full."""
_AGAIN = 10.0
"""Seconds until a full disk on which nothing happens is looked at again."""
_OFTEN = 5e9
"""Nanoseconds between two rounds on a disk that is nearly full."""
NOTHING = Retention(0, 0)
_DELAY = 0.00004
"""Seconds for a record: twice what it takes who makes a checkpoint."""
_STEPS = 4  # in which the horizon moves on over the time that history is kept
_log = logging.getLogger(__name__)


class Order(NamedTuple):
    """What a process is to do: see `fold`; with `nice`, when nobody else wants the processor."""

    until: tuple[int, int]
    policy: Policy
    retention: Retention | None = None
    twice: bool = False
    nice: bool = False
    lean: bool = False


class Demand:
    """Compaction that somebody asked for; `finished` once it is at its end.

    `retention` is how much of the past is to be kept, if not as `store.toml` says;
    `problem` is what was left undone, and why; so many `done` nodes of a `total` were
    seen to.
    """

    def __init__(self, retention: Retention | None, *, full: bool = False) -> None:
        """Ask for it; nothing has happened yet. With `full`, the disk is."""
        self.retention = retention
        self.full = full
        self.problem: str | None = None
        self.finished = threading.Event()
        self.done = self.total = 0

    def finish(self, problem: str | None) -> None:
        """Let who waits know that no more will be done."""
        self.problem = problem
        self.finished.set()


class Background:
    """Looks after an open store: call `tick` every second, or as it says."""

    def __init__(self, core: Core, policy: Policy, nameless: Callable[[], set[int]]) -> None:
        """Look after `core`, which is open for writing.

        `nameless` tells which segments files without a name have data in.
        """
        self._core = core
        self._policy = policy
        self._nameless = nameless
        self._retention = Retention.parse(core.config.keep_history)
        self._process: _Process | None = None
        self._mover: Mover | None = None
        self._order = Order((0, 0), policy)
        self._wanted: list[Demand] = []
        self._demand: Demand | None = None
        self._free: list[int] = []
        """Segments that are to go, once nobody reads."""
        self._covered = core.checkpointed
        """Records that the last round covered."""
        self._written = -core.log.replayed
        """Bytes that had been written then, since the store was opened."""
        self._live = core.live
        self._held = 0
        self._owed = 0.0
        self._last = time.monotonic()
        self._asked = -1
        """How many records there were when the disk was full."""
        core.find_room = self._find_room
        self.wake: Callable[[], object] = lambda: None
        """Called when a `tick` has something to do that will not wait."""

    def demand(self, retention: Retention | None = None) -> Demand:
        """Ask for compaction, which a `tick` will begin; may be called from any thread."""
        demand = Demand(retention)
        self._wanted.append(demand)
        self.wake()
        return demand

    def set_aside(self) -> bool:
        """Set room aside to empty a full disk with, and tell whether it is there."""
        core = self._core
        if core.checkpoints.possible:
            if not core.reserve.lay(LEAST + 2 * core.checkpoints.newest_size):
                return False
            core.short = False
        return True

    @property
    def _is_busy(self) -> bool:
        return bool(self._process or self._mover or self._demand or self._wanted)

    def _find_room(self) -> bool:
        """Tell whether there is room again on a disk that was full; if not, ask for what makes it.

        Not where that was in vain, and nothing has happened since.
        """
        core = self._core
        if self._is_busy and core.checkpoints.room < 2 * LEAST:
            return False  # what is being done needs the room
        if core.short and self.set_aside():
            return True
        if self._retention.is_all or not core.checkpoints.possible:
            return False
        if core.log.sequence != self._asked or time.monotonic() - self._last > _AGAIN:
            self._asked = core.log.sequence
            self._wanted.append(Demand(NOTHING, full=True))
            self.wake()
        return False

    def tick(self) -> float:
        """Do what is due, for some milliseconds at most; return the seconds until it is to be called again."""
        if self._mover:
            return self._move(self._mover)
        if self._process:
            outcome = self._process.outcome()
            if outcome is None:
                return _IDLE if self._order.nice else 5 * _SOON
            self._process = None
            self._take(outcome)
        elif self._wanted:
            self._begin(self._wanted.pop(0))
        elif self._core.short:
            self._find_room()
        elif self._is_due():
            # Who writes much must not be faster than what is dead can go.
            order = Order(self._core.log.stable, self._policy, nice=not self.is_full())
            if self._is_low():  # history gives way
                order = order._replace(policy=Policy(THOROUGH, 0), retention=NOTHING, lean=True)
            self._start(order)
        else:
            self._remove()
        return _SOON if self._mover or self._demand else _IDLE

    def stop(self) -> None:
        """End the process, if one is at it."""
        if self._process:
            self._process.stop()
            self._process = None
        for demand in (self._demand, *self._wanted):
            if demand:
                demand.finish("the store was closed")

    def is_full(self) -> bool:
        """Tell whether so much was written since the last round that it is time for another one."""
        core = self._core
        if not core.checkpoints.possible or self._retention.is_all:
            return False
        share, size = self._policy
        return core.log.written - self._written >= max(size, share * self._live)

    def _is_low(self) -> bool:
        """Tell whether the disk is nearly full."""
        found = self._core.disk.statvfs(self._core.path)
        return found.f_bavail < min(found.f_blocks // 20, _LOW // found.f_frsize)

    def _is_due(self) -> bool:
        core = self._core
        if not core.checkpoints.possible or not core.log.stable[0]:
            return False
        records = core.checkpoint_every or due_in_background(core.table.values)
        if core.log.synced - self._covered >= records or self.is_full():
            return True
        age = (time.monotonic() - self._last) * 1e9
        if core.log.synced > self._covered and self._is_low() and age >= _OFTEN:
            return True
        # What only the past needs goes as time does.
        kept, _ = self._retention
        return bool(kept and self._held >= self._policy.size and age >= kept / _STEPS)

    def _begin(self, demand: Demand) -> None:
        """Begin with what somebody asked for."""
        core = self._core
        if not core.checkpoints.possible:
            demand.finish("a text store is compacted while nobody has it open")
            return
        try:
            with core.lock:
                if demand.full:
                    core.short = core.reserve.release() or core.short
                core.log.roll()
        except KvfsError as error:
            demand.finish(str(error))
            return
        self._demand = demand
        self._start(Order(core.log.stable, Policy(THOROUGH, 0), demand.retention, lean=demand.full))

    def _start(self, order: Order) -> None:
        core = self._core
        self._order = order
        # What is noted may be less than what is stable by then, and is made up for with the next.
        self._covered, self._written = core.log.synced, core.log.written
        self._last = time.monotonic()
        core.pace = self._brake
        try:
            self._process = _Process(core.path, order)
        except OSError as error:
            self._end_round(f"no checkpoint was made: {in_words(error)}")

    def _brake(self, _size: int) -> None:
        """Let who writes wait a little, if that is faster than a checkpoint can be made."""
        ahead = self._core.log.written - self._written
        if ahead > max(2 * self._policy.size, self._live):
            self._owed += _DELAY
            if self._owed >= _SLICE:
                time.sleep(self._owed)
                self._owed = 0.0

    def _take(self, outcome: Fold | str) -> None:
        """Go on with what a process that has ended says."""
        order = self._order
        if isinstance(outcome, str):
            self._end_round(f"no checkpoint was made: {outcome}")
            return
        self._free, self._live, self._held = outcome.free, outcome.live, outcome.held
        problem = self._remove()
        asked = self._demand is not None and not self._demand.full
        if outcome.victims and not (order.twice and asked):
            self._mover = Mover(self._core, outcome)
            self._core.pace = self._mover.pay
        elif self._demand and not order.twice:
            self._start(order._replace(until=self._core.log.stable, twice=True))
        else:
            self._end_round(problem if self._demand else None)

    def _move(self, mover: Mover) -> float:
        core = self._core
        try:
            with core.lock:
                more = not core.closed and mover.step(_SLICE)
            if self._demand:
                self._demand.done, self._demand.total = mover.done, mover.total
            if more:
                return _PAUSE
            core.log.sync()
        except KvfsError as error:
            mover.problem = str(error)
        self._mover = core.pace = None
        if mover.problem:
            _log.warning("compaction left something where it is: %s", mover.problem)
        self._start(self._order._replace(until=core.log.stable, twice=True))
        return _SOON

    def _end_round(self, problem: str | None) -> None:
        self._core.pace = None
        if problem:
            _log.warning("%s", problem)
        if problem or (self._core.short and self.set_aside()):
            self._asked = -1
        if self._demand:
            self._demand.finish(problem)
            self._demand = None

    def _remove(self) -> str | None:
        """Remove the segments that may go; return why some could not, if so.

        Those stay that a file without a name has data in, until it is closed.
        """
        if not self._free:
            return None
        core = self._core
        with core.lock:
            going = set(self._free) - self._nameless()
            for number in going:
                core.log.forget(number)
        try:
            if not remove_segments(core.disk, core.path, sorted(going)):
                return IN_USE
        except OSError as error:
            return f"segments that nobody needs were left: {in_words(error)}"
        self._free = sorted(set(self._free) - going)
        return None


class Keeper:
    """A thread that looks after a store which nobody calls every second to do so."""

    def __init__(self, tick: Callable[[], float]) -> None:
        """Start it; `tick` is that of `Background`."""
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvfs-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; not for who holds the lock of the store."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                pause = self._tick()
            except Exception:  # noqa: BLE001 - it goes on at the next time
                _log.exception("what is due in the background failed unexpectedly")
                pause = _IDLE


class _Process:
    """A process that makes a checkpoint, as `order` says."""

    def __init__(self, path: str, order: Order) -> None:
        """Start it for the store at `path`. Raises what the system says."""
        self.order = order
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-P", "-m", __name__, path, json.dumps(order), str(os.getpid())]
        # Not pipes, which would have to be read meanwhile.
        self._found: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_close`
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._found,
                stderr=self._said,
                env={**os.environ, "PYTHONPATH": paths},
            )
        except OSError:
            self._close()
            raise

    def outcome(self) -> Fold | str | None:
        """Return what it found, or why it did not; None if it is still at it."""
        if self._process.poll() is None:
            return None
        try:
            self._found.seek(0)
            self._said.seek(0)
            if self._process.returncode == 0:
                return Fold.load(self._found)
            lines = self._said.read().decode(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line), "it was ended")
        except ValueError:
            return "somebody else is making one"
        finally:
            self._close()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._found.close()
        self._said.close()


def main(path: str, order: str, daemon: str) -> None:
    """Do to the store at `path` what `order`, in JSON, says, for the process `daemon`."""
    from kvfs.store.opening import read_config

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(daemon):
        return  # it has died before we could be told
    (segment, offset), policy, retention, twice, nice, lean = json.loads(order)
    if nice:
        os.nice(_NICE)
    disk = Disk()
    try:
        found = fold(
            Checkpoints(disk, path, read_config(path, disk)),
            (segment, offset),
            Policy(*policy),
            Retention(*retention) if retention else None,
            twice=twice,
            lean=lean,
        )
    except OSError as error:
        sys.exit(in_words(error))
    if found:
        found.dump(sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
