"""What of a store is kept, and what may go: checkpoints and segments.

A checkpoint needs the segments that hold the data of its nodes, and to be of use,
those of the log behind it. Kept are the last two checkpoints; the one from which
the history goes on that is to be kept, the *horizon*; for each snapshot the last
one before it, and the log from there to the snapshot; and between horizon and
end a few more, so that the horizon can move on. All else may go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterable, Iterator

    from kvfs.checkpoint import Position
    from kvfs.retention import Retention

LAST = 2
_STEPS = 4
"""In so many steps the horizon moves on over the history that is to be kept."""


class Policy(NamedTuple):
    """When compaction sets in by itself: at so large a `share` of dead bytes, and so many of them."""

    share: float = 0.4
    size: int = 64 * 1024 * 1024


DEFAULT = Policy()
THOROUGH = Policy(0.1, 0)
"""When it is asked for."""


class Known(NamedTuple):
    """A good checkpoint: its name, where it stands, and the bytes of each segment in use there."""

    name: str
    position: Position
    live: Counter[int]


class Plan(NamedTuple):
    """What is kept.

    `checkpoints` by name; `segments` by number; of these, `pinned` are those that
    a snapshot needs. Up to the segment `horizon` no history is kept (0: all is).
    """

    checkpoints: set[str]
    segments: set[int]
    pinned: set[int]
    horizon: int


def plan(
    checkpoints: list[Known],
    sizes: dict[int, int],
    snapshots: Iterable[int],
    first_of: Callable[[int], int],
    retention: Retention,
    now: int,
    last: int = LAST,
) -> Plan:
    """Return what is kept of `checkpoints`, the newest first, and of the segments in `sizes` (bytes).

    `snapshots` are how many records come before each, `first_of` tells how many
    come before a segment; `now` is in nanoseconds since 1970. So many of the `last`
    checkpoints are kept in any case.
    """
    horizon = _horizon(checkpoints, sizes, retention, now)
    since = checkpoints[: checkpoints.index(horizon) + 1] if horizon else checkpoints
    steps = [] if retention.is_all else _steps(since[::-1], horizon, sizes, retention)
    kept = {known.name: known for known in (*checkpoints[:last], *steps)}
    if horizon:
        kept[horizon.name] = horizon
    reach = horizon.position.segment if horizon else 0
    segments = {number for number in sizes if number >= reach}
    pinned: set[int] = set()
    for records in snapshots:
        below = next((known for known in checkpoints if known.position.sequence <= records), None)
        if below is not None:
            kept[below.name] = below
            pinned |= {below.position.segment, *below.live}
        first = below.position.segment if below else 1
        pinned |= _leading_to(records, first, sizes, first_of)
    for known in kept.values():
        segments |= {known.position.segment, *known.live}
    segments |= pinned
    return Plan(set(kept), segments & sizes.keys(), pinned, reach)


def victims(
    found: Plan, newest: Known, sizes: dict[int, int], share: float, least: int, room: int
) -> set[int]:
    """Return the segments whose data is to be moved on, so that they can go.

    That is none while what is dead in segments that live on is less than `share` of
    them, or than `least` bytes; else those with most of it, until it is half of that,
    or `room` bytes are to be moved.
    """
    live = newest.live
    there = sparse(found, newest, sizes)
    total = sum(sizes[number] for number in there)
    dead = sum(there.values())
    if dead <= max(share * total, least):
        return set()
    chosen = set()
    for number in sorted(there, key=lambda number: there[number] / sizes[number], reverse=True):
        if dead <= share / 2 * total or live[number] > room:
            break
        chosen.add(number)
        room -= live[number]
        dead -= there[number]
        total -= there[number]
    return chosen


def sparse(found: Plan, newest: Known, sizes: dict[int, int]) -> dict[int, int]:
    """Return the dead bytes of each segment that would go if what lives in it were elsewhere."""
    return {
        number: size - newest.live[number]
        for number, size in sizes.items()
        if 0 < newest.live[number] < size
        and number < min(newest.position.segment, found.horizon)
        and number not in found.pinned
    }


def unbroken(numbers: Collection[int], first: int) -> bool:
    """Tell whether `numbers`, of segments, has all from `first` to the last there is."""
    return all(number in numbers for number in range(first, max(numbers, default=0) + 1))


def behind(position: Position, sizes: dict[int, int]) -> int:
    """Return how many bytes of the log come behind `position`."""
    later = sum(size for number, size in sizes.items() if number > position.segment)
    return later + max(sizes.get(position.segment, 0) - position.offset, 0)


def _horizon(
    checkpoints: list[Known], sizes: dict[int, int], retention: Retention, now: int
) -> Known | None:
    """Return the checkpoint from which the history goes on; None if it goes on from the beginning."""
    time, size = retention
    for known in checkpoints:
        old = time is not None and known.position.time <= now - time
        far = size is not None and behind(known.position, sizes) >= size
        if old or far:
            return known
    if unbroken(sizes, 1):
        return None
    # The beginning has gone before; what is there now has to last.
    usable = [known for known in checkpoints if unbroken(sizes, known.position.segment)]
    return usable[-1] if usable else None


def _steps(
    checkpoints: list[Known], horizon: Known | None, sizes: dict[int, int], retention: Retention
) -> Iterator[Known]:
    """Yield those of `checkpoints`, the oldest first, that the horizon is to move on over.

    They come behind `horizon`, or the beginning of the log.
    """
    time, size = retention
    far = sum(sizes.values())
    at = checkpoints[0].position.defaults[2] if checkpoints else 0  # when the store was made
    for known in checkpoints:
        later, further = known.position.time - at, far - behind(known.position, sizes)
        if (
            known is horizon
            or (time and later >= time // _STEPS)
            or (size and further >= size // _STEPS)
        ):
            at, far = known.position.time, behind(known.position, sizes)
            yield known


def _leading_to(
    records: int, first: int, sizes: dict[int, int], first_of: Callable[[int], int]
) -> set[int]:
    """Return the segments from `first` on that have any of the `records` before a snapshot."""
    found = set()
    for number in sorted(number for number in sizes if number >= first):
        if first_of(number) >= records:
            break
        found.add(number)
    return found
