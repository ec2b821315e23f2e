"""Reading all of a store and saying what is wrong with it, without changing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kvfs.codec import BadRecordError
from kvfs.disk import Disk
from kvfs.errors import CorruptionError
from kvfs.segment import check_header, name_of, number_of
from kvfs.store.core import Core
from kvfs.store.kv import read_config
from kvfs.table import audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.codec import Codec


class Damage(NamedTuple):
    """One bad place: the segment's file name, the offset in bytes, and what is wrong."""

    segment: str
    offset: int
    reason: str


class SegmentReport(NamedTuple):
    """What one segment holds: its file name, its size in bytes, its whole records."""

    name: str
    size: int
    records: int
    damage: list[Damage]


class Report(NamedTuple):
    """What `check` found.

    `torn` is how many bytes at the end belong to no whole record, as a crash
    leaves them: the next writable open moves them to quarantine. `problems`
    are those of the log as a whole, and of the table that it builds. `values` counts the keys with a value.
    """

    segments: list[SegmentReport]
    torn: int
    problems: list[str]
    values: int

    @property
    def damaged(self) -> bool:
        """Whether anything but a torn end is wrong."""
        return bool(self.problems or any(segment.damage for segment in self.segments))


def check(path: str, progress: Callable[[int, int], object] | None = None) -> Report:
    """Read and verify every record of the store at `path`, beside a mount or alone.

    `progress` is called with the bytes done and the bytes in all. Raises
    `NotAStoreError` or `ConfigError`.
    """
    disk = Disk()
    path = os.path.abspath(path)
    config = read_config(path, disk)
    codec = config.codec()
    directory = os.path.join(path, "segments")
    numbers = sorted(n for name in disk.list(directory) if (n := number_of(name)) is not None)
    files = [os.path.join(directory, name_of(number)) for number in numbers]
    total = sum(disk.stat(file).st_size for file in files)
    reports = []
    done = 0
    for number, file in zip(numbers, files, strict=True):
        report = _check_segment(codec, config.id, number, disk.read_file(file))
        reports.append(report)
        done += report.size
        if progress:
            progress(done, total)
    core = Core(disk, path, config, writable=False)
    problems: list[str] = []
    try:
        core.open(None, 0)
        problems += [f"the table does not fit together: {problem}" for problem in audit(core.table)]
    except CorruptionError as error:
        problems.append(str(error))
    finally:
        core.close()
    if core.log.lost:
        problems.append(f"{core.log.lost} bytes are missing at the end since the last clean close")
    if not problems and reports:
        end = core.log.end
        torn = sum(r.size for r, n in zip(reports, numbers, strict=True) if n >= end.segment)
        torn -= end.offset if end.segment else 0
        reports[-1] = reports[-1]._replace(damage=[])
    else:
        torn = 0
    return Report(reports, torn, problems, core.table.values)


def _check_segment(codec: Codec, store_id: bytes, number: int, data: bytes) -> SegmentReport:
    name = name_of(number)
    damage: list[Damage] = []
    count = 0
    offset: int | None = codec.header_size
    try:
        check_header(codec, store_id, number, data)
    except BadRecordError as error:
        damage.append(Damage(name, error.offset, error.reason))
    while offset is not None:
        try:
            for _ in codec.scan(data, number, offset):
                count += 1
            break
        except BadRecordError as error:
            damage.append(Damage(name, error.offset, error.reason))
            following = next(codec.resync(data, number, error.offset), None)
            offset = following.offset if following else None
    return SegmentReport(name, len(data), count, damage)
