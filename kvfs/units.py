"""Sizes, times and shares as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,30}) *(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([a-z]+)")
_STEP = 1024
_SECOND = 1_000_000_000
_TIME_UNITS = {
    unit: length
    for length, units in {
        _SECOND: ("s", "sec", "second", "seconds"),
        60 * _SECOND: ("m", "min", "minute", "minutes"),
        3600 * _SECOND: ("h", "hour", "hours"),
        86_400 * _SECOND: ("d", "day", "days"),
        7 * 86_400 * _SECOND: ("w", "week", "weeks"),
    }.items()
    for unit in units
}


def parse_size(text: str) -> int | None:
    """Return the bytes that `text` says, such as `65536`, `64KiB` or `64M`; None if it says none.

    Units are powers of 1024.
    """
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(match[1]) * 1024 ** _SIZE_UNITS[(match[2] or "").lower()]


def format_size(size: int) -> str:
    """Return `size` bytes in the largest unit that shows them exactly, such as 64MiB."""
    for unit, power in reversed(_SIZE_UNITS.items()):
        if power and size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit.upper()}iB"
    return f"{size}B"


def show_size(size: int) -> str:
    """Return `size` bytes for people, such as 1.4 MiB."""
    shown = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if shown < _STEP:
            return f"{size} bytes" if unit == "bytes" else f"{shown:.1f} {unit}"
        shown /= _STEP
    return f"{shown:.1f} TiB"


def parse_duration(text: str) -> int | None:
    """Return the nanoseconds that `text` says, such as `30s`, `2h` or `1.5 days`; None if it says none."""
    match = _DURATION.fullmatch(text.strip())
    unit = _TIME_UNITS.get(match[2]) if match else None
    return None if match is None or unit is None else int(float(match[1]) * unit)
