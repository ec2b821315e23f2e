"""What `kvfs check`, `repair` and `backup` print, for people and in JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kvfs.cli.arguments import ByteSize
from kvfs.cli.output import moment, print_json, printing
from kvfs.cli.progress import percent
from kvfs.cli.tables import show_line, show_table
from kvfs.errors import KvfsError, quoted
from kvfs.store.backup import backup
from kvfs.store.listing import losses
from kvfs.store.repair import repair
from kvfs.store.verify import check

if TYPE_CHECKING:
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


def _print_repair(done: Repair) -> None:
    if done.rebuilt:
        show_line("store.toml was made anew from the segments")
    if done.finished:
        show_line("an earlier repair was brought to its end")
    for name in done.checkpoints:
        show_line(f"checkpoint {name} was no good and has been removed; nothing is lost by it")
    if done.kept is None:
        show_line("sound: there is nothing to repair", "green")
        return
    _show_lost(done.lost)
    if done.fates:
        rows = [(quoted(fate.key), _fate(fate)) for fate in done.fates[:_MOST]]
        show_table(("key", "now"), rows)
    for path in done.directories[:_MOST]:
        show_line(f"directory {quoted(path)} was made anew, for its owner alone")
    most = max(len(done.lost), len(done.fates), len(done.directories))
    if most > _MOST:
        show_line(f"and more: up to {most - _MOST} of each kind, see the list")
    if done.lost:
        show_line(_HINT)
    kept = f"repaired: {done.records} records; the old segments are in {done.kept},"
    show_line(f"{kept} and this list in {done.kept}.json", "yellow")


def _show_lost(lost: list[Lost]) -> None:
    rows = []
    for entry in lost[:_MOST]:
        what = entry.record or "unknown"
        if entry.key is not None:
            what = f"{what.lower()} {quoted(entry.key)}"
        if entry.new is not None:
            what += f" to {quoted(entry.new)}"
        place = (entry.segment, str(entry.offset), str(entry.length))
        rows.append((*place, what, entry.reason))
    show_table(("segment", "offset", "bytes", "lost", "why"), rows, ("offset", "bytes"))


def _fate(fate: Fate) -> str:
    if fate.state == "gone":
        return "no value"
    what = {
        "older": "an older value",
        "replaced": "a later value, whole",
        "attributes": "it is there; its attributes may be older",
    }[fate.state]
    when = moment(fate.mtime or 0)
    size = "" if fate.size is None else f"{fate.size} bytes "
    moved = "" if fate.now == (fate.key,) else f", now {', '.join(map(quoted, fate.now))}"
    return f"{what}: {size}of {when}{moved}"


def _print(report: Report, store: str) -> None:
    rows = []
    for segment in report.segments:
        state = f"{len(segment.damage)} bad places" if segment.damage else "sound"
        rows.append((segment.name, str(segment.size), str(segment.records), state))
    show_table(("segment", "bytes", "records", "state"), rows, ("bytes", "records"))
    damage = [place for segment in report.segments for place in segment.damage]
    if damage:
        _show_lost(damage)
    if len(damage) > _MOST:
        show_line(f"and {len(damage) - _MOST} more bad places: see --json")
    for checkpoint in report.checkpoints:
        state = checkpoint.problem or f"sound, {checkpoint.records} records before it"
        show_line(f"checkpoint {checkpoint.name}: {state}")
    for problem in report.problems:
        show_line(f"damaged: {problem}", "red")
    if report.torn:
        show_line(
            f"torn end of {ByteSize(report.torn)}, as a crash leaves it;"
            " the next writer moves it to quarantine"
        )
    records = sum(segment.records for segment in report.segments)
    verdict = f"{records} records, {report.values} keys with a value"
    if report.damaged:
        show_line(f"damaged: {verdict}; salvage what is sound with: kvfs repair {store}", "red")
    else:
        show_line(f"sound: {verdict}", "green")
