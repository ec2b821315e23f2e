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
from typing import IO, TYPE_CHECKING, NamedTuple

from kvfs.errors import CorruptionError, KvfsError
from kvfs.records import Relocate
from kvfs.recovery import LogPaths
from kvfs.segment import name_of
from kvfs.store.keeping import victims
from kvfs.store.readers import alone
from kvfs.table import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvfs.disk import Disk
    from kvfs.records import Record
    from kvfs.retention import Retention
    from kvfs.store.checkpoints import Checkpoints, Kept
    from kvfs.store.core import Core

_NUMBER = "Q"
_AT_ONCE = 64 * 1024  # bytes that are moved together
_COST = 128  # bytes that seeing to a node counts as
_PRICE = 3
"""Bytes that are moved for each one that is written meanwhile."""
IN_USE = "somebody reads the store; what may go is removed once nobody does"
THOROUGH = 0.1
"""The share of dead bytes at which compaction on demand sets in."""


class Policy(NamedTuple):
    """When compaction sets in by itself: at so large a `share` of dead bytes, and so many of them."""

    share: float = 0.4
    size: int = 64 * 1024 * 1024


DEFAULT = Policy()


class Fold(NamedTuple):
    """What the first step of a round found.

    `free` segments may go; what lives in `victims`, which is in the nodes
    `numbers`, is to be moved. All bytes are of whole segments before the checkpoint:
    `live` ones, and `held` ones that only the past needs.
    """

    free: list[int]
    victims: list[int]
    live: int
    held: int
    numbers: array[int]

    def dump(self, file: IO[bytes]) -> None:
        """Write it to `file`."""
        file.write(json.dumps(self[:-1]).encode() + b"\n")
        file.write(self.numbers.tobytes())

    @classmethod
    def load(cls, file: IO[bytes]) -> Fold:
        """Read what `dump` wrote. Raises `ValueError` for what is none."""
        free, chosen, live, held = json.loads(file.readline())
        numbers = array(_NUMBER)
        numbers.frombytes(file.read())
        return cls(free, chosen, live, held, numbers)


def fold(
    checkpoints: Checkpoints,
    until: tuple[int, int],
    policy: Policy,
    retention: Retention | None = None,
    *,
    twice: bool = False,
    lean: bool = False,
) -> Fold | None:
    """Make a checkpoint of the log up to `until`, and find out what may go and what is to be moved.

    The arguments are those of `Checkpoints.make`, and so is what it raises. None
    if somebody else is making one.
    """
    kept = checkpoints.make(until, retention, twice=twice and not lean, lean=lean)
    if kept is None:
        return None
    newest, numbers = kept.newest, array(_NUMBER)
    chosen: set[int] = set()
    if newest is not None:
        chosen = victims(kept.plan, newest, kept.sizes, policy.share, policy.size, checkpoints.room)
    if newest is not None and chosen:
        with checkpoints.opened(newest.name) as checkpoint:
            numbers.extend(checkpoint.holding(chosen))
    live = newest.live.total() if newest else 0
    return Fold(kept.free, sorted(chosen), live, _held(kept), numbers)


def _held(kept: Kept) -> int:
    """Return how many bytes of segments are kept though nothing in them is alive."""
    newest = kept.newest
    if newest is None:
        return 0
    return sum(
        kept.sizes[number]
        for number in kept.plan.segments
        if number < newest.position.segment and not newest.live[number]
    )


def remove_segments(disk: Disk, path: str, numbers: Iterable[int]) -> bool:
    """Remove segments that may go from the store at `path`; False while somebody reads it."""
    segments = LogPaths.of(path).segments
    with alone(disk, path) as nobody_reads:
        if not nobody_reads:
            return False
        for number in numbers:
            try:
                disk.unlink(os.path.join(segments, name_of(number)))
            except FileNotFoundError:
                continue
        disk.sync_directory(segments)
    return True


class Mover:
    """Appends what lives in some segments to the log once more, a little at a time."""

    def __init__(self, core: Core, found: Fold) -> None:
        """Move what `found` says, in `core`."""
        self._core = core
        self._segments = frozenset(found.victims)
        self._numbers = found.numbers
        self._next = self._owed = 0
        self.problem: str | None = None
        """Why something was left where it is."""

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
            self._move(self._owed)

    def _move(self, size: int) -> bool:
        """Move at least `size` bytes, if there are, and tell whether there is more."""
        core = self._core
        batch: list[Record] = []
        while size > 0 and self._next < len(self._numbers):
            for record in self._records(self._numbers[self._next]):
                batch.append(record)
                size -= len(record.data)
            size -= _COST
            self._next += 1
        self._owed = 0
        try:
            core.relocate(batch)
        except KvfsError as error:
            self.problem = str(error)
            self._next = len(self._numbers)
        return self._next < len(self._numbers)

    def _records(self, number: int) -> Iterator[Relocate]:
        """Yield the records that move what the node `number` has in the segments."""
        core = self._core
        nodes, segments = core.table.nodes, self._segments
        place = nodes.place_of(number)
        if place is not None and place[0].segment not in segments:
            return
        node = nodes.look(number)
        if not isinstance(node, File) or not node.nlink:
            return
        for extent in node.extents:
            location, skip = extent.location, extent.skip
            if location.segment not in segments:
                continue
            try:
                data = core.log.read(location).data[skip : skip + extent.length]  # type: ignore[union-attr]
            except CorruptionError as error:
                self.problem = str(error)  # its reader is told, as before
                continue
            record = Relocate(core.table.key_of(node), 0, b"", core.now())
            yield from core.write_parts(record, extent.start, data)  # type: ignore[misc]


def compact(
    core: Core,
    retention: Retention | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> str | None:
    """Compact the open store `core`, which nobody else uses meanwhile; return what was left, and why.

    `retention` is how much of the past is kept, if not as `store.toml` says;
    `progress` is called with the nodes seen to and those there are. Raises what the
    log and the disk say.
    """
    if not core.checkpoints.possible:
        return "a text store is compacted while nobody has it open"
    policy = Policy(THOROUGH, 0)
    core.log.roll()
    found = fold(core.checkpoints, core.log.stable, policy, retention)
    if found is None:
        return "somebody else is making a checkpoint"
    problem = None
    if found.victims:
        mover = Mover(core, found)
        while mover.step(0.1):
            progress(mover.done, mover.total)
        problem = mover.problem
    core.log.sync()
    found = fold(core.checkpoints, core.log.stable, policy, retention, twice=True)
    if found and found.free and not remove_segments(core.disk, core.path, found.free):
        problem = IN_USE
    return problem
