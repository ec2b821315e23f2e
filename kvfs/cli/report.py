"""What `kvfs check`, `repair` and `backup` print, for people and in JSON."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kvfs.cli.arguments import ByteSize
from kvfs.cli.output import printing, quoted
from kvfs.cli.progress import progress
from kvfs.errors import KvfsError
from kvfs.store.backup import backup
from kvfs.store.listing import losses
from kvfs.store.repair import repair
from kvfs.store.verify import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kvfs.store.pieces import Lost
    from kvfs.store.repair import Repair
    from kvfs.store.salvage import Fate
    from kvfs.store.verify import Report

_MOST = 1000
"""Lines of a table; who has more to read takes the list."""
_HINT = (
    "What damaged bytes say of their keys is a hint: where it is wrong, or says unknown, another"
    " key has lost a change, and is not listed."
)


def show_check(store: str, *, as_json: bool) -> bool:
    """Check the store, print what was found, and tell whether it is sound."""
    with percent("checking") as step:
        report = check(store, step)
    with printing():
        _show_report(report, store, as_json=as_json)
    return not report.damaged


def _show_report(report: Report, store: str, *, as_json: bool) -> None:
    if as_json:
        values = {**report._asdict(), "sound": not report.damaged}
        values["segments"] = [
            {**segment._asdict(), "damage": losses(segment.damage, [], [])["lost"]}
            for segment in report.segments
        ]
        values["checkpoints"] = [checkpoint._asdict() for checkpoint in report.checkpoints]
        print_json(values)
    else:
        _print(report, store)


def show_repair(store: str, *, as_json: bool) -> None:
    """Repair the store if it is damaged, and print what was lost."""
    with percent("checking") as step:
        done = repair(store, step)
    try:
        with printing():
            _show_done(done, as_json=as_json)
    except OSError as error:
        where = f"the list is in {done.kept}.json" if done.kept else "nothing was lost"
        message = f"the repair is done, {where}; it could not be shown: {error.strerror}"
        raise KvfsError(message, error.errno) from error


def _show_done(done: Repair, *, as_json: bool) -> None:
    if as_json:
        lists = losses(done.lost, done.fates, done.directories)
        shown: dict[str, Any] = {"repaired": done.kept is not None, "rebuilt": done.rebuilt}
        shown |= {"finished": done.finished, "checkpoints": done.checkpoints, "kept": done.kept}
        print_json({**shown, **lists})
    else:
        _print_repair(done)


def show_backup(store: str, directory: str, *, as_json: bool) -> None:
    """Bring the backup of the store in `directory` up to date, and print what was copied."""
    with percent("copying") as step:
        done = backup(store, directory, step)
    if as_json:
        print_json(done._asdict())
        return
    copied = f"copied {done.segments} segments, {ByteSize(done.bytes)}"
    sys.stdout.write(f"{directory} has {done.records} records; {copied}\n")


def print_json(values: dict[str, Any]) -> None:
    """Print one JSON object, indented."""
    sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def percent(what: str) -> Iterator[Callable[[int, int], None]]:
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

    console = _console()
    if done.rebuilt:
        console.print("store.toml was made anew from the segments")
    if done.finished:
        console.print("an earlier repair was brought to its end")
    for name in done.checkpoints:
        console.print(f"checkpoint {name} was no good and has been removed; nothing is lost by it")
    if done.kept is None:
        console.print("sound: there is nothing to repair")
        return
    console.print(_table_of(done.lost))
    keys = Table("key", "now")
    for fate in done.fates[:_MOST]:
        keys.add_row(_text(quoted(fate.key)), _text(_fate(fate)))
    if done.fates:
        console.print(keys)
    for path in done.directories[:_MOST]:
        console.print(_text(f"directory {quoted(path)} was made anew, for its owner alone"))
    most = max(len(done.lost), len(done.fates), len(done.directories))
    if most > _MOST:
        console.print(f"and more: up to {most - _MOST} of each kind, see the list")
    if done.lost:
        console.print(_text(_HINT))
    kept = f"repaired: {done.records} records; the old segments are in {done.kept},"
    console.print(_text(f"{kept} and this list in {done.kept}.json"))


def _table_of(lost: list[Lost]) -> Table:
    from rich.table import Table

    table = Table("segment", "offset", "bytes", "lost", "why")
    for entry in lost[:_MOST]:
        what = entry.record or "unknown"
        if entry.key is not None:
            what = f"{what.lower()} {quoted(entry.key)}"
        if entry.new is not None:
            what += f" to {quoted(entry.new)}"
        place = (entry.segment, str(entry.offset), str(entry.length))
        table.add_row(*place, _text(what), _text(entry.reason))
    return table


def _fate(fate: Fate) -> str:
    if fate.state == "gone":
        return "no value"
    what = {
        "older": "an older value",
        "replaced": "a later value, whole",
        "attributes": "it is there; its attributes may be older",
    }[fate.state]
    when = datetime.fromtimestamp((fate.mtime or 0) / 1e9, UTC).isoformat(" ", "seconds")
    size = "" if fate.size is None else f"{fate.size} bytes "
    moved = "" if fate.now == (fate.key,) else f", now {', '.join(map(quoted, fate.now))}"
    return f"{what}: {size}of {when}{moved}"


def _text(shown: str) -> Text:
    """Return `shown` as it is: what users call things is no markup."""
    from rich.text import Text

    return Text(shown)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _print(report: Report, store: str) -> None:
    from rich.table import Table

    console = _console()
    table = Table("segment", "bytes", "records", "state")
    for segment in report.segments:
        state = f"{len(segment.damage)} bad places" if segment.damage else "sound"
        table.add_row(segment.name, str(segment.size), str(segment.records), state)
    console.print(table)
    damage = [place for segment in report.segments for place in segment.damage]
    if damage:
        console.print(_table_of(damage))
    if len(damage) > _MOST:
        console.print(f"and {len(damage) - _MOST} more bad places: see --json")
    for checkpoint in report.checkpoints:
        state = checkpoint.problem or f"sound, {checkpoint.records} records before it"
        console.print(_text(f"checkpoint {checkpoint.name}: {state}"))
    for problem in report.problems:
        console.print(_text(f"damaged: {problem}"))
    if report.torn:
        console.print(
            f"torn end of {ByteSize(report.torn)}, as a crash leaves it;"
            " the next writer moves it to quarantine"
        )
    records = sum(segment.records for segment in report.segments)
    verdict = f"{records} records, {report.values} keys with a value"
    if report.damaged:
        console.print(_text(f"damaged: {verdict}; salvage what is sound with: kvfs repair {store}"))
    else:
        console.print(f"sound: {verdict}")
