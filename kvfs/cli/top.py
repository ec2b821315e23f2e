"""`kvfs top`: what a mount is doing, refreshed as long as somebody looks."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from kvfs import mounts
from kvfs.control import ask_for_stats
from kvfs.disk import Disk
from kvfs.errors import KvfsError
from kvfs.figures import from_text
from kvfs.histogram import quantile
from kvfs.store import holder_of
from kvfs.store.opening import read_config
from kvfs.units import show_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from kvfs.figures import Figures

_KINDS = 3
"""So many kinds of requests are in a line."""
_MILLI, _MICRO = 1e-3, 1e-6


def show_top(path: str, interval: float, *, once: bool, as_json: bool) -> None:
    """Show what the mount of the store at `path`, or at that mountpoint, does in each `interval`.

    On a terminal until q or Ctrl-C; elsewhere, or `as_json`, a line for each
    interval; with `once` after the first. Raises `KvfsError` where there is no mount.
    """
    take = _source(path)
    if sys.stdout.isatty() and not (once or as_json):
        _show_live(take, interval)
        return
    for change in _changes(take, lambda: time.sleep(interval)):
        sys.stdout.write((json.dumps(change) if as_json else _line(change)) + "\n")
        sys.stdout.flush()
        if once:
            return


def _source(path: str) -> Callable[[], Figures]:
    """Return what tells the figures of the mount: its file, or the process that has the store open."""
    mount = mounts.find(path)
    if mount:
        return lambda: _read(mount.mountpoint)
    store = os.path.abspath(path)
    read_config(store, Disk())
    holder = holder_of(Disk(), store)
    if holder is None or not holder.mounted:
        message = f"{store} is not mounted; a mount that only reads is found by its mountpoint"
        raise KvfsError(message)
    return lambda: ask_for_stats(store)


def _read(mountpoint: str) -> Figures:
    try:
        with open(
            os.path.join(mountpoint, ".kvfs", "stats"), encoding="utf-8", errors="surrogateescape"
        ) as file:
            # A group without figures has no line.
            return {"errors": {}, "requests": {}, **from_text(file.read())}
    except OSError as error:
        message = f"the mount at {mountpoint} does not answer: {error.strerror}"
        raise KvfsError(message, error.errno) from error


def _changes(take: Callable[[], Figures], pause: Callable[[], object]) -> Iterator[dict[str, Any]]:
    """Yield what happened in each interval; `pause` lets one pass."""
    before, began = take(), time.monotonic()
    while True:
        pause()
        now, ended = take(), time.monotonic()
        yield change(before, now, max(ended - began, 1e-9))
        before, began = now, ended


def change(before: Figures, now: Figures, seconds: float) -> dict[str, Any]:
    """Return what happened between two snapshots that are `seconds` apart: rates, and how things are."""

    def rate(group: str, name: str) -> float:
        return float(max(now[group][name] - before[group][name], 0) / seconds)

    kinds = {
        kind: _kind(before["requests"].get(kind), found, seconds)
        for kind, found in now["requests"].items()
    }
    errors = sum(now["errors"].values()) - sum(before["errors"].values())
    return {
        "store": now["store"]["path"],
        "mountpoint": now["mount"]["mountpoint"],
        "uptime": now["mount"]["uptime"],
        "seconds": seconds,
        "requests": sum(kind["rate"] for kind in kinds.values()),
        "errors": max(errors, 0) / seconds,
        "read_bytes": rate("data", "read_bytes"),
        "written_bytes": rate("data", "written_bytes"),
        "appended": rate("log", "appended"),
        "appended_bytes": rate("log", "appended_bytes"),
        "syncs": rate("sync", "count"),
        "sync": _spread(before["sync"], now["sync"]),
        "cache_hits": _share(rate("cache", "hits"), rate("cache", "misses")),
        "polled": _share(rate("wait", "polled") + rate("wait", "shared"), rate("wait", "slept")),
        "moved_bytes": rate("compaction", "moved_bytes"),
        "keys": now["store"]["keys"],
        "log": now["log"],
        "kinds": kinds,
    }


def _kind(before: Figures | None, now: Figures, seconds: float) -> dict[str, Any]:
    count = max(now["count"] - (before["count"] if before else 0), 0)
    return {"rate": count / seconds, "count": now["count"], **_spread(before, now)}


def _spread(before: Figures | None, now: Figures) -> dict[str, float | None]:
    """Return the median and the 99th percentile, in seconds, of what was timed meanwhile.

    That is not every request: where it was none of those, of all so far.
    """
    old = before["buckets"] if before else []
    pairs = zip_longest(now["buckets"], old, fillvalue=0)
    buckets = [max(new - old, 0) for new, old in pairs]
    if not any(buckets):
        buckets = now["buckets"]
    return {"p50": quantile(buckets, 0.5), "p99": quantile(buckets, 0.99)}


def _share(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest else None


def _busiest(change: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(change["kinds"].items(), key=lambda item: (-item[1]["rate"], item[0]))


def _line(change: dict[str, Any]) -> str:
    """Return the change in one line."""
    busy = [
        f"{name} {found['rate']:.0f}/s p50 {_time(found['p50'])} p99 {_time(found['p99'])}"
        for name, found in _busiest(change)[:_KINDS]
        if found["rate"]
    ]
    parts = [
        time.strftime("%H:%M:%S"),
        f"{change['requests']:.0f} requests/s",
        f"{change['errors']:.0f} errors/s",
        f"read {_bytes(change['read_bytes'])}/s",
        f"written {_bytes(change['written_bytes'])}/s",
        f"log +{_bytes(change['appended_bytes'])}/s",
        *busy,
    ]
    return "  ".join(parts)


def _show_live(take: Callable[[], Figures], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    with _keys() as pressed:
        ended = False

        def pause() -> None:
            nonlocal ended
            ended = pressed(interval)

        changes = _changes(take, pause)
        try:
            with Live(console=Console(), screen=True, auto_refresh=False) as live:
                for found in changes:
                    if ended:
                        return
                    live.update(_view(found), refresh=True)
        except KeyboardInterrupt:
            return


def _sleep(seconds: float) -> bool:
    """Wait, where nobody can press a key."""
    time.sleep(seconds)
    return False


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Yield what waits so many seconds, and tells at once whether q was pressed."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            typed = os.read(fd, 64)
            if not typed or b"q" in typed.lower():
                return True
        return False

    try:
        tty.setcbreak(fd, termios.TCSANOW)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def _view(change: dict[str, Any]) -> RenderableType:
    """Return the change as a screen shows it."""
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    for name, value in _summary(change):
        head.add_row(Text(name, "dim"), Text(value))
    columns = (Column(name, justify="right") for name in ("per second", "p50", "p99", "in all"))
    kinds = Table("request", *columns, box=None, padding=(0, 2), header_style="bold")
    for name, found in _busiest(change):
        times = _time(found["p50"]), _time(found["p99"])
        style = "" if found["rate"] else "dim"
        kinds.add_row(name, f"{found['rate']:,.0f}", *times, f"{found['count']:,}", style=style)
    return Group(head, Text(), kinds, Text("\nq ends", "dim"))


def _summary(change: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines above the table: a name, and what it says."""
    log, sync = change["log"], change["sync"]
    yield "store", f"{change['store']}, mounted at {change['mountpoint']}"
    yield "up", f"{change['uptime']:,.0f} s, {change['keys']:,} keys"
    yield "requests", f"{change['requests']:,.0f}/s, {change['errors']:,.0f} errors/s"
    read, written = _bytes(change["read_bytes"]), _bytes(change["written_bytes"])
    yield "data", f"{read}/s read, {written}/s written"
    grown = f"{_bytes(change['appended_bytes'])}/s, {change['appended']:,.0f} records/s"
    yield "log", f"{grown}; {change['syncs']:.1f} syncs/s, p50 {_time(sync['p50'])}"
    behind = log["records"] - log["synced"]
    size = f"{show_size(log['bytes'])} in {log['segments']:,} segments"
    yield "on disk", f"{size}, about {show_size(log['live_bytes'])} live; {behind:,} not synced"
    yield "compaction", f"{_bytes(change['moved_bytes'])}/s moved"
    yield "cache hits", _per_cent(change["cache_hits"])
    yield "no sleep", _per_cent(change["polled"])


def _bytes(rate: float) -> str:
    return show_size(round(rate))


def _per_cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _time(seconds: float | None) -> str:
    """Return a duration for people."""
    if seconds is None:
        return "-"
    if seconds < _MILLI:
        return f"{seconds / _MICRO:.0f} us"
    return f"{seconds / _MILLI:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
