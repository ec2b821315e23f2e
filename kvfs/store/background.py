"""Checkpoints and compaction beside the store's other work, without leaving it waiting.

What needs files only is done by a process of its own (`process`). What must go
through the log is done here, a little at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kvfs.checkpoint import BadCheckpointError
from kvfs.errors import KvfsError, NoSpaceError, in_words
from kvfs.retention import NOTHING, Retention
from kvfs.store.compaction import IN_USE, NOT_TEXT, Fold, Mover
from kvfs.store.keeping import THOROUGH, Policy
from kvfs.store.process import Order, Process
from kvfs.store.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.store.core import Core

_SLICE = 0.002
"""Seconds for which others wait while something is moved."""
_PAUSE = 0.008
"""Seconds between two slices."""
_IDLE = 1.0
_SOON = 0.02
_DELAY = 0.00004
"""Seconds for a record: twice what it takes who makes a checkpoint."""
_AGAIN = 10.0
"""Seconds until a full disk on which nothing happens is looked at again."""
_MUCH = 500_000
"""So many files in memory, of 300 bytes each, are worth to stand on a newer checkpoint."""
_PATIENCE = 0.05
_PROGRESS = 0.9
"""So much of what was dead before a round may be left, or another one is in vain."""
_log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """The store is being closed."""


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
    """Looks after an open store: call `tick` every second, or as it says, in one thread."""

    def __init__(self, core: Core, policy: Policy) -> None:
        """Look after `core`, which is open for writing."""
        self._core = core
        self.watch = Watch(core, policy)
        self.checkpoints = 0
        """How many checkpoints were made."""
        self._process: Process | None = None
        self._mover: Mover | None = None
        self._order = Order((0, 0), policy)
        self._wanted: list[Demand] = []
        self._demand: Demand | None = None
        self._found: Fold | None = None
        """What the last process found, while segments are to go that it named."""
        self._dead: int | None = None
        """Bytes that were dead when this round began."""
        self._stuck: set[int] = set()
        """Segments that hold something which cannot be read, and so not be moved."""
        self._owed = 0.0
        self._asked = -1
        """How many records there were when the disk was full."""
        self._stopping = threading.Event()
        core.find_room = self._find_room
        self._tracks = False
        """Whether the table is to stand on the checkpoint that comes next."""
        self._prunes = False
        self.may_adopt: Callable[[], bool] = lambda: True
        """Tells whether nobody goes through what the checkpoint has that the table stands on."""
        self.wake: Callable[[], object] = lambda: None
        """Called when a `tick` has something to do that will not wait."""

    # -- what others ask for --------------------------------------------------------

    def demand(self, retention: Retention | None = None) -> Demand:
        """Ask for compaction, which a `tick` will begin; may be called from any thread."""
        demand = Demand(retention)
        self._wanted.append(demand)
        self.wake()
        return demand

    def stop(self) -> None:
        """End the process, if one is at it; no `tick` does anything any more.

        For who has the lock of the store. What may go, goes, if nobody reads by now.
        """
        self._stopping.set()
        found = self._found
        if found:
            with suppress(OSError):
                left = self._core.let_go(found.free)
                self._core.remove(set(found.free) - left, found.snapshots, found.stale)
        if self._process:
            self._process.stop()
            self._process = None
        for demand in (self._demand, *self._wanted):
            if demand:
                demand.finish("the store was closed")

    def stop_soon(self) -> None:
        """Let a `tick` that is at it come to an end, also where it waits for the lock of the store."""
        self._stopping.set()

    def _find_room(self) -> bool:
        """Tell whether there is room again on a disk that was full; if not, ask for what makes it.

        Not where that was in vain, and nothing has happened since.
        """
        core, watch = self._core, self.watch
        busy = self._process or self._mover or self._demand or self._wanted
        if busy and not watch.has_room:
            return False  # what is being done needs the room
        if core.short and watch.set_aside():
            return True
        if watch.may_compact and (core.log.sequence != self._asked or watch.age > _AGAIN):
            self._asked = core.log.sequence
            self._wanted.append(Demand(NOTHING, full=True))
            self.wake()
        return False

    # -- rounds ---------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due, for some milliseconds at most; return the seconds until it is to be called again."""
        try:
            return self._tick()
        except _StoppedError:
            return _IDLE

    def _tick(self) -> float:
        if self._mover:
            return self._move(self._mover)
        if self._process:
            outcome = self._process.outcome()
            if outcome is None:
                return self._prune(_IDLE if self._order.nice else 5 * _SOON)
            full, self._process = self._process.disk_full, None
            self._take(outcome, full=full)
        elif self._wanted:
            self._begin(self._wanted.pop(0))
        elif self._core.short:
            self._find_room()
        elif self.watch.is_due():
            self._track()
            self._start(self.watch.order())
        else:
            self._remove()
        return _SOON if self._mover or self._demand else self._prune(_IDLE)

    def _track(self) -> None:
        """Prepare to stand on the checkpoint that will be made, where much is in memory by now."""
        core = self._core
        if core.table.nodes.in_memory < _MUCH:
            return
        with self._lock():
            core.table.nodes.track()
        self._tracks = True
        core.log.sync()  # so that the checkpoint has all that has not been tracked

    def _adopt(self, name: str | None) -> None:
        """Stand on the checkpoint `name`, if that was prepared for; what it has is then forgotten."""
        if not self._tracks or name is None:
            return
        try:
            with self._lock():
                if not self.may_adopt():
                    return  # with the next one
                self._core.adopt(name)
        except (OSError, BadCheckpointError) as error:
            _log.warning("checkpoint %s is not used: %s", name, error)
            return
        self._tracks, self._prunes = False, True

    def _prune(self, pause: float) -> float:
        """Free some of what the checkpoint has as well; return `pause`, or less if there is more."""
        if not self._prunes:
            return pause
        with self._lock():
            self._prunes = self._core.table.nodes.prune(_SLICE / 2)
        return 4 * _PAUSE if self._prunes else pause

    def _begin(self, demand: Demand) -> None:
        """Begin with what somebody asked for."""
        core = self._core
        if not core.checkpoints.possible:
            demand.finish(NOT_TEXT)
            return
        try:
            with self._lock():
                if demand.full:
                    core.short = core.reserve.release() or core.short
                core.log.roll()
        except NoSpaceError as error:
            if not demand.full:
                self._begin_full(demand, str(error))
                return
        except KvfsError as error:
            demand.finish(str(error))
            return
        self._demand = demand
        self._start(Order(core.log.stable, THOROUGH, demand.retention, lean=demand.full))

    def _begin_full(self, demand: Demand, problem: str) -> None:
        """Begin anew with what somebody asked for on a disk that turned out to be full."""
        if not self.watch.may_compact:
            demand.finish(problem)
            return
        demand.full, demand.retention = True, NOTHING
        self._begin(demand)

    def _start(self, order: Order) -> None:
        core = self._core
        self._order = order = order._replace(without=tuple(self._stuck))
        self._dead = self._dead if order.twice else None
        self.watch.note_round()
        core.pace = self._brake
        try:
            self._process = Process(core.path, order)
        except OSError as error:
            self._end_round(f"no checkpoint was made: {in_words(error)}")

    def _brake(self, _size: int) -> None:
        """Let who writes wait a little, if that is faster than a checkpoint can be made."""
        if self.watch.is_ahead:
            self._owed += _DELAY
            if self._owed >= _SLICE:
                time.sleep(self._owed)
                self._owed = 0.0

    def _take(self, outcome: Fold | str, *, full: bool) -> None:
        """Go on with what a process that has ended says."""
        order, demand = self._order, self._demand
        if isinstance(outcome, str):
            if full and demand and not demand.full:
                self._demand = None
                self._begin_full(demand, outcome)
            else:
                self._end_round(f"no checkpoint was made: {outcome}")
            return
        self._found = outcome
        self.checkpoints += outcome.newest is not None
        self.watch.note_found(outcome)
        problem = self._remove()
        worth = self._dead is None or outcome.dead < _PROGRESS * self._dead
        if outcome.victims and (order.lean or not order.twice) and worth:
            self._dead = outcome.dead
            self._mover = Mover(self._core, outcome)
            self._core.pace = self._mover.pay
        elif demand and not order.twice:
            self._start(order._replace(until=self._core.log.stable, twice=True))
        else:
            self._adopt(outcome.newest)
            self._end_round(problem if demand else None)

    def _move(self, mover: Mover) -> float:
        core = self._core
        with self._lock():
            more = mover.step(_SLICE)
        if self._demand:
            self._demand.done, self._demand.total = mover.done, mover.total
        if more:
            return _PAUSE
        self._mover = core.pace = None
        self._stuck |= mover.stuck
        if mover.problem:
            _log.warning("compaction left something where it is: %s", mover.problem)
        try:
            core.log.sync()
        except KvfsError as error:
            self._end_round(str(error))
        else:
            self._start(self._order._replace(until=core.log.stable, twice=True))
        return _SOON

    def _end_round(self, problem: str | None) -> None:
        self._core.pace = None
        if problem:
            _log.warning("%s", problem)
        if problem or (self._core.short and self.watch.set_aside()):
            self._asked = -1
        if self._demand:
            self._demand.finish(problem)
            self._demand = None

    def _remove(self) -> str | None:
        """Remove the segments that may go; return why some could not, if so."""
        found = self._found
        if found is None or not found.free:
            return None
        try:
            with self._lock():
                left = self._core.let_go(found.free)
            done = self._core.remove(set(found.free) - left, found.snapshots, found.stale)
        except OSError as error:
            return f"segments that nobody needs were left: {in_words(error)}"
        if not done:
            return IN_USE
        self._found = found._replace(free=sorted(left))
        return None

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of the store, unless that is being closed."""
        lock = self._core.lock
        while not lock.acquire(timeout=_PATIENCE):
            if self._stopping.is_set():
                raise _StoppedError
        try:
            if self._stopping.is_set():
                raise _StoppedError
            yield
        finally:
            lock.release()


class Keeper:
    """A thread that looks after a store which nobody calls every second to do so."""

    def __init__(self, tick: Callable[[], float]) -> None:
        """Start it; `tick` is that of `Background`."""
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvfs-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. Whoever holds the lock of the store first says `stop_soon`, or it waits for that."""
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
