"""What `kvfs check` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.cli.arguments import ByteSize
from kvfs.cli.progress import progress
from kvfs.store.verify import check

if TYPE_CHECKING:
    from kvfs.store.verify import Report, SegmentReport


def show_check(store: str) -> bool:
    """Check the store, print what was found, and tell whether it is sound."""
    last = 0
    with progress("checking", 100) as advance:

        def step(done: int, total: int) -> None:
            nonlocal last
            now = 100 * done // max(total, 1)
            advance(now - last)
            last = now

        report = check(store, step)
    _print(report)
    return not report.damaged


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("segment", "bytes", "records", "state")
    for segment in report.segments:
        table.add_row(segment.name, str(segment.size), str(segment.records), _state(segment))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for problem in report.problems:
        console.print(f"damaged: {problem}", markup=False)
    if report.torn:
        console.print(
            f"torn end of {ByteSize(report.torn)}, as a crash leaves it;"
            " the next writer moves it to quarantine"
        )
    records = sum(segment.records for segment in report.segments)
    verdict = "damaged" if report.damaged else "sound"
    console.print(f"{verdict}: {records} records, {report.values} keys with a value")


def _state(segment: SegmentReport) -> str:
    if not segment.damage:
        return "sound"
    return "; ".join(f"offset {place.offset}: {place.reason}" for place in segment.damage)
