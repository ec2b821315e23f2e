"""Reading all of a store and saying what is wrong with it, without changing it."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from kvfs.checkpoint import Checkpoint, agrees
from kvfs.disk import Disk
from kvfs.errors import KvfsError
from kvfs.recovery import LogPaths, Replay
from kvfs.segment import misplaced, name_of, numbers_of, verify
from kvfs.store import exchange
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.directories import check_directories
from kvfs.store.opening import read_config
from kvfs.store.readers import held
from kvfs.store.survey import Survey
from kvfs.table import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config
    from kvfs.recovery import LogEnd
    from kvfs.store.checkpoints import Standing
    from kvfs.store.pieces import Lost


class SegmentReport(NamedTuple):
    """What one segment holds: its file name, its size in bytes, its whole records, its bad places."""

    name: str
    size: int
    records: int
    damage: list[Lost]


class CheckpointReport(NamedTuple):
    """A checkpoint: its file name, how many records come before it, and what is wrong, if anything."""

    name: str
    records: int
    problem: str | None


class Report(NamedTuple):
    """What `check` found.

    `torn` is how many bytes at the end belong to no whole record, as a crash
    leaves them: the next writable open moves them to quarantine. `problems`
    are those of the log as a whole, and of the table that it builds. `values`
    counts the keys with a value.
    """

    segments: list[SegmentReport]
    torn: int
    problems: list[str]
    values: int
    checkpoints: list[CheckpointReport]

    @property
    def damaged(self) -> bool:
        """Whether anything but a torn end is wrong."""
        return bool(
            self.problems
            or any(segment.damage for segment in self.segments)
            or any(checkpoint.problem for checkpoint in self.checkpoints)
        )


class Replayed(NamedTuple):
    """A log that was read as a whole.

    `sizes` and `counts` are the bytes and the records of each segment, as far
    as it was read; `torn` are the bytes behind its end, `values` the keys with a value.
    """

    problems: list[str]
    sizes: dict[int, int]
    counts: Counter[int]
    torn: int
    values: int

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.counts.total()


def check(
    path: str,
    progress: Callable[[int, int], object] | None = None,
    disk: Disk | None = None,
) -> Report:
    """Read and verify every record of the store at `path`, beside a mount or alone.

    `progress` is called with the bytes done and the bytes in all. Raises
    `NotAStoreError` or `ConfigError`.
    """
    disk = disk or Disk()
    path = os.path.abspath(path)
    config = read_config(path, disk)
    check_directories(disk, path, make=False)
    with held(disk, path):
        return examine(disk, path, config, progress)[0]


def examine(
    disk: Disk,
    path: str,
    config: Config,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Report, Survey | None]:
    """Return what `check` does of the store of `config` at `path`, and if it is damaged, all of it."""
    known = Checkpoints(disk, path, config)
    checkpoints = dict(known.open_each())
    try:
        with known.beginning() as (begin, problem):
            found, compared = _replay_beside(disk, path, config, begin, checkpoints, progress)
    finally:
        for checkpoint in checkpoints.values():
            if isinstance(checkpoint, Checkpoint):
                checkpoint.close()
    if problem:
        found.problems.insert(0, problem)
    problems = found.problems
    if exchange.pending(disk, path) is not None:
        problems.insert(0, f"a repair has not come to its end; finish it with: kvfs repair {path}")
    if not problems:
        reports = [
            SegmentReport(name_of(number), size, found.counts[number], [])
            for number, size in found.sizes.items()
        ]
        return Report(reports, found.torn, [], found.values, compared), None
    survey = Survey(disk, path, config, begin.start)
    for lost in (lost for entries in survey.missing.values() for lost in entries):
        problems.append(f"segment {lost.segment}, offset {lost.offset}: {lost.reason}")
    reports = [
        SegmentReport(name_of(number), segment.size, segment.records, segment.lost)
        for number, segment in survey.segments.items()
    ]
    return Report(reports, 0, problems, found.values, []), survey


def _replay_beside(
    disk: Disk,
    path: str,
    config: Config,
    begin: Standing,
    checkpoints: dict[str, Checkpoint | str],
    progress: Callable[[int, int], object] | None,
) -> tuple[Replayed, list[CheckpointReport]]:
    """Replay the log from `begin` on, and hold each of `checkpoints` against it where it stands.

    Those that are not behind the place where the log begins cannot be.
    """
    since = begin.start.sequence if begin.start else 0
    reports = []
    standing: dict[int, list[tuple[str, Checkpoint]]] = {}
    for name, checkpoint in checkpoints.items():
        if isinstance(checkpoint, str):
            reports.append(CheckpointReport(name, 0, checkpoint))
        elif checkpoint.position.sequence <= since:
            reports.append(CheckpointReport(name, checkpoint.position.sequence, None))
        else:
            standing.setdefault(checkpoint.position.sequence, []).append((name, checkpoint))

    def compare(records: int) -> None:
        for name, checkpoint in standing.pop(records, ()):
            same = agrees(begin.table, begin.checkpoint, checkpoint)
            problem = None if same else "it is not what the log makes"
            reports.append(CheckpointReport(name, records, problem))

    found = replay(disk, LogPaths.of(path), config, begin, progress, compare)
    for records, left in standing.items():
        for name, _ in left:
            reports.append(CheckpointReport(name, records, "it is ahead of the log"))
    return found, sorted(reports)


def replay(
    disk: Disk,
    paths: LogPaths,
    config: Config,
    begin: Standing,
    progress: Callable[[int, int], object] | None = None,
    after: Callable[[int], object] = lambda _records: None,
) -> Replayed:
    """Bring the table of `begin` forward by the log at `paths`, as far as that goes, and audit it.

    What lies before `begin` is verified too, record by record. `after` is called
    with the count of records after each of them.
    """
    directory = disk.open_directory(paths.segments)
    log = Replay(disk, paths, config, directory, begin.start)
    table, done = begin.table, begin.start.sequence if begin.start else 0
    counts: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    problems: list[str] = []
    total = _total(disk, paths.segments) if progress else 0
    try:
        if begin.start:
            _verify_before(disk, paths, config, begin.start, sizes, counts)
        for record, location in log.records():
            try:
                table.apply(record, location)
            except KvfsError as error:
                raise misplaced(location, error) from None
            if progress and location.segment not in counts:
                progress(sum(sizes.values()) + sum(log.sizes.values()), total)
            counts[location.segment] += 1
            table.detached.clear()
            done += 1
            after(done)
    except KvfsError as error:
        problems.append(str(error))
    finally:
        disk.close(directory)
    if not problems:
        problems += [f"the table does not fit together: {problem}" for problem in audit(table)]
    if log.lost:
        problems.append(f"{log.lost} bytes are missing at the end since the last clean close")
    return Replayed(problems, sizes | log.sizes, counts, log.torn, table.values)


def _verify_before(
    disk: Disk,
    paths: LogPaths,
    config: Config,
    start: LogEnd,
    sizes: dict[int, int],
    counts: Counter[int],
) -> None:
    """Verify the records before `start`, of the segments that are there; note bytes and records.

    Raises `CorruptionError` at damage.
    """
    codec = config.codec()
    for number in numbers_of(disk.list(paths.segments)):
        if number > start.segment:
            break
        data = disk.read_file(os.path.join(paths.segments, name_of(number)))
        sizes[number] = len(data)
        if number == start.segment:
            data = data[: start.offset]
        counts[number] += verify(codec, config.id, number, data)


def _total(disk: Disk, segments: str) -> int:
    """Return the bytes of all segments in the directory `segments`."""
    names = (name_of(number) for number in numbers_of(disk.list(segments)))
    return sum(disk.stat(os.path.join(segments, name)).st_size for name in names)
