"""What `kvfs stat` prints, for people and in JSON."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvfs.cli.arguments import ByteSize
from kvfs.cli.output import moment, print_json
from kvfs.control import ask_for_stats
from kvfs.errors import KvfsError
from kvfs.store.stat import stat
from kvfs.units import show_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

    from kvfs.figures import Figures
    from kvfs.store.stat import SegmentStat, StoreStat

_SEVERAL = 2
_MOST = 1000
"""Segments that are shown; who has more takes the JSON."""
_NAMES = 10
"""Snapshots that are named."""
_BAR = 40
_NARROW_BAR = 16
SHARES = ("live", "historic", "dead")
COLOURS = {"live": "green", "historic": "yellow", "dead": "red"}
_MARKS = {"live": "#", "historic": "+", "dead": "."}


def show_stat(store: str, *, as_json: bool, plot: str | None) -> None:
    """Print what the store is and how it is; with `plot`, draw its segments to that file as well."""
    found = stat(store)
    mount = _mount(found)
    if plot:
        from kvfs.cli.plot import draw

        draw(found, plot)
    if as_json:
        print_json(_values(found, mount))
    else:
        _print(found, mount)


def _mount(found: StoreStat) -> Figures | None:
    """Return the figures of the mount that has the store open, if there is one and it answers."""
    if found.holder and found.holder.mounted:
        with suppress(KvfsError):
            return ask_for_stats(found.path)
    return None


def _values(found: StoreStat, mount: Figures | None) -> dict[str, Any]:
    values = {**found._asdict(), "holder": found.holder._asdict() if found.holder else None}
    for name in ("segments", "checkpoints", "snapshots"):
        values[name] = [each._asdict() for each in values[name]]
    return {**values, "mount": mount}


def _print(found: StoreStat, mount: Figures | None) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:  # a console of its own would fail where nobody reads
        _draw(found, mount, console)
    sys.stdout.write(captured.get())


def _draw(found: StoreStat, mount: Figures | None, console: Console) -> None:
    from rich.text import Text

    lines = dict(_lines(found, mount))
    width = max(map(len, lines)) + 2
    for name, value in lines.items():
        line = Text(f"{name + ':':{width}}", "bold" if console.is_terminal else "")
        console.print(line.append(value, "not bold" if console.is_terminal else ""))
    if found.bytes:
        plain = not console.is_terminal
        shown = Text(" " * width).append_text(bar(found, _BAR, plain=plain))
        console.print(shown.append("  ").append_text(_legend(plain=plain)))
    _print_segments(found, console)


def _lines(found: StoreStat, mount: Figures | None) -> Iterator[tuple[str, str]]:
    """Yield what is said of the store, each with its name."""
    yield "store", found.path
    segments = f"segments of up to {ByteSize(found.max_segment_size)}"
    yield "format", f"{found.format}, {segments}"
    yield "id", found.id
    yield "created", moment(found.created)
    yield "keys with a value", f"{found.values:,}"
    yield "records", f"{found.records:,}"
    several = "1 segment" if len(found.segments) == 1 else f"{len(found.segments):,} segments"
    shares = ", ".join(f"{show_size(getattr(found, share))} {share}" for share in SHARES)
    yield "size", f"{show_size(found.bytes)} in {several}: {shares}"
    back = f"it goes back to record {found.since:,} ({moment(found.since_time)})"
    yield "history", f"{found.keep_history}; {back}"
    yield "checkpoints", _checkpoints(found)
    yield "snapshots", _snapshots(found)
    yield "open for writing", _holder(found, mount)
    if mount:
        yield "synced", _synced(mount["log"], mount["sync"])
    yield "state", _health(found)


def _checkpoints(found: StoreStat) -> str:
    if not found.checkpoints:
        return "none"
    newest = found.checkpoints[-1]
    size = show_size(sum(each.bytes for each in found.checkpoints))
    behind = f"the last one behind record {newest.records:,}"
    return f"{len(found.checkpoints)} of {size}; {behind}"


def _snapshots(found: StoreStat) -> str:
    names = [snapshot.name for snapshot in found.snapshots[-_NAMES:]]
    more = len(found.snapshots) - len(names)
    return (f"{more} older, " if more else "") + (", ".join(names) or "none")


def _holder(found: StoreStat, mount: Figures | None) -> str:
    if found.holder is None:
        return "by nobody"
    since = mount["mount"]["started"] * 1e9 if mount else found.held_since
    return f"{found.holder}" + (f", since {moment(since)}" if since else "")


def _synced(log: Figures, sync: Figures) -> str:
    if not sync["last"]:
        return f"up to record {log['synced']:,} of {log['records']:,}"
    ago = max(time.time() - sync["last"], 0.0)
    return f"up to record {log['synced']:,} of {log['records']:,}, {ago:.1f} s ago"


def bar(sizes: StoreStat | SegmentStat, width: int, *, plain: bool) -> Text:
    """Return a bar of `width` characters that shows which share of the bytes is live, historic and dead."""
    from rich.text import Text

    shown, end, total = Text(), 0, 0
    for share in SHARES:
        total += getattr(sizes, share)
        cells = round(width * total / sizes.bytes) - end if sizes.bytes else 0
        shown.append((_MARKS[share] if plain else "█") * cells, "" if plain else COLOURS[share])
        end += cells
    return shown


def _legend(*, plain: bool) -> Text:
    """Return what the parts of a bar stand for."""
    from rich.text import Text

    parts = [
        Text(f"{_MARKS[share] if plain else '█'} {share}", "" if plain else COLOURS[share])
        for share in SHARES
    ]
    return Text("  ").join(parts)


def _print_segments(found: StoreStat, console: Console) -> None:
    """Print what is in each segment, if there are several."""
    from rich import box
    from rich.table import Column, Table

    if len(found.segments) < _SEVERAL:
        return
    plain = not console.is_terminal
    columns = [Column(name, justify="right") for name in ("bytes", *SHARES)]
    table = Table("segment", *columns, "", box=None if plain else box.HEAVY_HEAD)
    for segment in found.segments[:_MOST]:
        sizes = map(show_size, segment[1:])
        table.add_row(segment.name, *sizes, bar(segment, _NARROW_BAR, plain=plain))
    console.print(table)
    if len(found.segments) > _MOST:
        console.print(f"and {len(found.segments) - _MOST} more: see --json")


def _health(found: StoreStat) -> str:
    if found.holder and found.holder.failure:
        return f"takes no more writes: {found.holder.failure}"
    if found.lost:
        return f"{found.lost} bytes are missing at its end since it was last closed"
    return "sound"
