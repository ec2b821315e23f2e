"""Compaction: what is dead goes, and what lives among it moves on first.

A round is: a checkpoint is made, and with it is known which segments nobody
needs, and which are worth to be emptied. What lives in those is appended to the
log once more, as `Relocate` records, which change nothing. The checkpoint after
that needs those segments no more, and with the one before it they go. A crash
anywhere leaves a log that says the same, and the next round begins anew.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from bisect import bisect_left
from contextlib import nullcontext, suppress
from operator import attrgetter
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from kvfs.errors import FULL_DISK, KvfsError, NoSpaceError
from kvfs.records import Relocate
from kvfs.recovery import LogPaths
from kvfs.retention import NOTHING, Retention
from kvfs.segment import name_of
from kvfs.store.checkpoints import remove_checkpoints
from kvfs.store.keeping import THOROUGH, Policy, sparse, victims
from kvfs.store.moment import read_snapshots
from kvfs.store.readers import alone
from kvfs.table import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvfs.disk import Disk
    from kvfs.records import Record
    from kvfs.store.checkpoints import Checkpoints, Kept
    from kvfs.store.core import Core
    from kvfs.store.keeping import Known
    from kvfs.table.content import Extent

_NUMBER = "Q"
_CHEAP = 64 * 1024 * 1024  # bytes of a checkpoint that is soon copied
_AT_ONCE = 64 * 1024  # bytes that are moved together
_COST = 128  # bytes that seeing to a node counts as
_MOST = 1024 * 1024  # bytes that one who writes pays for at once
_PRICE = 3
"""Bytes that are moved for each one that is written meanwhile."""
IN_USE = "somebody reads the store; what may go is removed once nobody does"


NOT_TEXT = "a text store is compacted while nobody has it open"


class Fold(NamedTuple):
    """What the first step of a round found.

    `free` segments may go; what lives in `victims`, which is in the nodes
    `numbers`, is to be moved. Of the bytes, `live` ones are what the nodes take,
    `held` ones are of segments that only the past needs, `dead` ones lie among what
    lives. `snapshots` are how many records come before each, as it was then. `newest` is
    the checkpoint, `stale` are those that are to go first.
    """

    newest: str | None
    stale: list[str]
    free: list[int]
    victims: list[int]
    live: int
    held: int
    dead: int
    snapshots: list[int]
    numbers: array[int]

    def dump(self, file: IO[bytes]) -> None:
        """Write it to `file`."""
        file.write(json.dumps(self[:-1]).encode() + b"\n")
        file.write(self.numbers.tobytes())

    @classmethod
    def load(cls, file: IO[bytes]) -> Fold:
        """Read what `dump` wrote. Raises `ValueError` for what is none."""
        newest, stale, free, chosen, live, held, dead, snapshots = json.loads(file.readline())
        numbers = array(_NUMBER)
        numbers.frombytes(file.read())
        return cls(newest, stale, free, chosen, live, held, dead, snapshots, numbers)


def fold(
    checkpoints: Checkpoints,
    until: tuple[int, int],
    policy: Policy,
    retention: Retention | None = None,
    *,
    twice: bool = False,
    lean: bool = False,
    without: frozenset[int] = frozenset(),
) -> Fold | None:
    """Make a checkpoint of the log up to `until`, and find out what may go and what is to be moved.

    Nothing that lives in segments `without` is. A small one is there twice in any case. The other arguments are those of
    `Checkpoints.make`, and so is what it raises. None if somebody else is making one.
    """
    twice = (twice or checkpoints.newest_size <= _CHEAP) and not lean
    kept = checkpoints.make(until, retention, twice=twice, lean=lean)
    if kept is None:
        return None
    newest, numbers = kept.newest, array(_NUMBER)
    if newest is None:
        return Fold(None, list(kept.stale), kept.free, [], 0, 0, 0, kept.snapshots, numbers)
    found = kept.plan._replace(pinned=kept.plan.pinned | without)
    room = checkpoints.room
    chosen = victims(found, newest, kept.sizes, policy.share, policy.size, room)
    if chosen:
        with checkpoints.opened(newest.name) as checkpoint:
            numbers.extend(checkpoint.holding(chosen))
    dead = sum(sparse(found, newest, kept.sizes).values())
    held = _held(kept, newest)
    live = newest.live.total()
    return Fold(
        newest.name,
        list(kept.stale),
        kept.free,
        sorted(chosen),
        live,
        held,
        dead,
        kept.snapshots,
        numbers,
    )


def _held(kept: Kept, newest: Known) -> int:
    """Return how many bytes are of segments in which nothing is alive, and that no snapshot needs."""
    return sum(
        kept.sizes[number]
        for number in kept.plan.segments - kept.plan.pinned
        if number < newest.position.segment and not newest.live[number]
    )


def remove_segments(
    disk: Disk,
    path: str,
    numbers: Iterable[int],
    snapshots: list[int] | None = None,
    stale: Iterable[str] = (),
) -> int | None:
    """Remove segments that may go from the store at `path`; return how many, None while somebody reads it.

    The checkpoints that are `stale` go first. Nothing is removed, since it was decided
    for other ones, if `snapshots` are not those that there are.
    """
    segments = LogPaths.of(path).segments
    with alone(disk, path) as nobody_reads:
        if not nobody_reads:
            return None
        there = sorted(records for _, records, _ in read_snapshots(disk, path))
        if snapshots is not None and snapshots != there:
            return 0
        remove_checkpoints(disk, path, list(stale))
        gone = 0
        for number in numbers:
            try:
                disk.unlink(os.path.join(segments, name_of(number)))
            except FileNotFoundError:
                continue
            gone += 1
        disk.sync_directory(segments)
    return gone


class Mover:
    """Appends what lives in some segments to the log once more, a little at a time."""

    def __init__(self, core: Core, found: Fold) -> None:
        """Move what `found` says, in `core`."""
        self._core = core
        self._segments = frozenset(found.victims)
        self._numbers = found.numbers
        self._next = self._owed = 0
        self._offset = 0
        """How far the next node has been seen to."""
        self.problem: str | None = None
        """Why something was left where it is."""
        self.stuck: set[int] = set()
        """Segments with something that cannot be read."""

    @property
    def done(self) -> int:
        """How many nodes have been seen to."""
        return self._next

    @property
    def total(self) -> int:
        """How many nodes there are to be seen to."""
        return len(self._numbers)

    def step(self, seconds: float) -> bool:
        """Move for so long, and tell whether there is more to move; for who has the lock of the store."""
        deadline = time.perf_counter() + seconds
        while self._move(_AT_ONCE) and time.perf_counter() < deadline:
            pass
        return self._next < len(self._numbers)

    def pay(self, size: int) -> None:
        """Move some bytes for each of `size` that somebody has written.

        So who writes much is slowed down, and not faster than what is dead can go.
        """
        self._owed += _PRICE * size
        if self._owed >= _AT_ONCE:
            self._move(min(self._owed, _MOST))

    def _move(self, size: int) -> bool:
        """Move some `size` bytes, if there are, and tell whether there is more."""
        batch: list[Record] = []
        self._owed = 0
        try:
            while size > 0 and self._next < len(self._numbers):
                moved = self._collect(self._numbers[self._next], size, batch)
                size -= moved + _COST
            self._core.relocate(batch)
        except KvfsError as error:
            self.problem = str(error)
            self._next = len(self._numbers)
        return self._next < len(self._numbers)

    def _collect(self, number: int, size: int, batch: list[Record]) -> int:
        """Add to `batch` what moves some `size` bytes of the node `number`; return how many.

        Goes on to the next node at the end of this one.
        """
        core = self._core
        resting = core.table.nodes.place_of(number)
        node = core.table.nodes.look(number)
        extents = node.extents if isinstance(node, File) and node.nlink else []
        if resting is not None and resting[0].segment not in self._segments:
            extents = []
        low = bisect_left(extents, self._offset, key=attrgetter("start"))
        moved = 0
        for extent in extents[low:]:
            if moved >= size:
                self._offset = extent.start
                return moved
            if extent.location.segment in self._segments:
                data = self._read(extent)
                record = Relocate(core.table.key_of(node), 0, b"", core.now())  # type: ignore[arg-type]
                batch += core.write_parts(record, extent.start, data)
                moved += len(data)
        self._next += 1
        self._offset = 0
        return moved

    def _read(self, extent: Extent) -> bytes:
        """Return the data of `extent`; none, and a note of it, where it cannot be read."""
        try:
            record: Any = self._core.log.read(extent.location)
        except KvfsError as error:
            self.problem = str(error)  # its reader is told, as before
            self.stuck.add(extent.location.segment)
            return b""
        data: bytes = record.data[extent.skip : extent.skip + extent.length]
        return data


def compact(
    core: Core,
    retention: Retention | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> str | None:
    """Compact the open store `core`, which nobody else uses meanwhile; return what was left, and why.

    `retention` is how much of the past is kept, if not as `store.toml` says: on a
    full disk none. `progress` is called with the nodes seen to and those there are.
    Raises what the log and the disk say.
    """
    if not core.checkpoints.possible:
        return NOT_TEXT
    try:
        return _compact(core, retention, progress, lean=False)
    except OSError as error:
        all_kept = Retention.parse(core.config.keep_history).is_all
        if error.errno not in FULL_DISK or all_kept:
            raise
    core.reserve.release()
    return _compact(core, NOTHING, progress, lean=True)


def _compact(
    core: Core,
    retention: Retention | None,
    progress: Callable[[int, int], object],
    *,
    lean: bool,
) -> str | None:
    with suppress(NoSpaceError) if lean else nullcontext():
        core.log.roll()
    problem, dead, twice = None, None, False
    stuck: set[int] = set()
    while True:
        core.log.sync()
        found = fold(
            core.checkpoints,
            core.log.stable,
            THOROUGH,
            retention,
            twice=twice,
            lean=lean,
            without=frozenset(stuck),
        )
        if found is None:
            return "somebody else is making a checkpoint"
        left = core.let_go(found.free)
        if not core.remove(set(found.free) - left, found.snapshots, found.stale):
            problem = IN_USE
        if twice and not (lean and dead is not None and found.dead < dead):
            return problem
        mover = Mover(core, found)
        while mover.step(0.1):
            progress(mover.done, mover.total)
        problem, dead, twice = mover.problem or problem, found.dead, True
        stuck |= mover.stuck
