"""What `kvfs check` and `kvfs repair` print, for people and in JSON."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kvfs.cli.arguments import ByteSize
from kvfs.cli.progress import progress
from kvfs.cli.transfer import field
from kvfs.store.repair import repair
from kvfs.store.stat import stat
from kvfs.store.verify import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from kvfs.store.repair import Fate, Repair
    from kvfs.store.verify import Report, SegmentReport


def show_check(store: str, *, as_json: bool) -> bool:
    """Check the store, print what was found, and tell whether it is sound."""
    with _percent("checking") as step:
        report = check(store, step)
    if as_json:
        values = {**report._asdict(), "sound": not report.damaged}
        values["segments"] = [
            {**segment._asdict(), "damage": [place._asdict() for place in segment.damage]}
            for segment in report.segments
        ]
        print_json(values)
    else:
        _print(report)
    return not report.damaged


def show_repair(store: str, *, as_json: bool) -> None:
    """Repair the store if it is damaged, and print what was lost."""
    with _percent("checking") as step:
        damaged = check(store, step).damaged
    done = None
    if damaged:
        with _percent("repairing") as step:
            done = repair(store, step)
    if as_json:
        lost = [_without_bytes(entry._asdict()) for entry in done.lost] if done else []
        fates = [_without_bytes(fate._asdict()) for fate in done.fates] if done else []
        kept = done.kept if done else None
        print_json({"repaired": damaged, "kept": kept, "lost": lost, "keys": fates})
    elif done:
        _print_repair(done)
    else:
        sys.stdout.write("sound: there is nothing to repair\n")


def show_stat(store: str, *, as_json: bool) -> None:
    """Print what the store is and how it is."""
    found = stat(store)
    holder = found.holder
    if as_json:
        print_json({**found._asdict(), "holder": holder._asdict() if holder else None})
        return
    created = datetime.fromtimestamp(found.created / 1e9, UTC).isoformat(" ", "seconds")
    lines = {
        "store": found.path,
        "format": found.format,
        "id": found.id,
        "created": created,
        "segments": f"{found.segments} of up to {ByteSize(found.max_segment_size)}",
        "bytes": str(found.bytes),
        "records": str(found.records),
        "keys with a value": str(found.values),
        "open for writing": str(holder) if holder else "by nobody",
        "state": f"takes no more writes: {holder.failure}"
        if holder and holder.failure
        else "sound",
    }
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        sys.stdout.write(f"{name + ':':{width}}{value}\n")


def print_json(values: dict[str, Any]) -> None:
    """Print one JSON object, indented."""
    sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _without_bytes(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with its bytes as JSON can have them; what is None is left out."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            shown |= field(name, value)
        elif value is not None:
            shown[name] = value
    return shown


@contextmanager
def _percent(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress in per cent; what it yields takes the bytes done and the bytes in all."""
    last = 0
    with progress(what, 100) as advance:

        def step(done: int, total: int) -> None:
            nonlocal last
            now = 100 * done // max(total, 1)
            advance(now - last)
            last = now

        yield step


def _print_repair(done: Repair) -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table("segment", "offset", "bytes", "lost", "why")
    for lost in done.lost:
        what = lost.record or "unknown"
        if lost.key is not None:
            what = f"{what.lower()} {_quoted(lost.key)}"
        table.add_row(lost.segment, str(lost.offset), str(lost.length), Text(what), lost.reason)
    console.print(table)
    keys = Table("key", "now")
    for fate in done.fates:
        keys.add_row(Text(_quoted(fate.key)), Text(_fate(fate)))
    if done.fates:
        console.print(keys)
    console.print(f"repaired: {done.records} records; the old segments are in {done.kept}")


def _fate(fate: Fate) -> str:
    if fate.state == "gone":
        return "no value"
    what = "an older value" if fate.state == "older" else "a later value, whole"
    when = datetime.fromtimestamp((fate.mtime or 0) / 1e9, UTC).isoformat(" ", "seconds")
    moved = f", now {_quoted(fate.now)}" if fate.now not in (None, fate.key) else ""
    return f"{what}: {fate.size} bytes of {when}{moved}"


def _quoted(key: bytes) -> str:
    return repr(key.decode(errors="backslashreplace"))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _print(report: Report) -> None:
    from rich.table import Table

    table = Table("segment", "bytes", "records", "state")
    for segment in report.segments:
        table.add_row(segment.name, str(segment.size), str(segment.records), _state(segment))
    console = _console()
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
