"""The figures of a running mount: groups of numbers, and the text that `.kvfs/stats` shows."""

from __future__ import annotations

import re
from typing import Any

Figures = dict[str, Any]
"""Groups by name, of figures or of groups; a figure is a number, a text, or a list of numbers."""
_SPECIAL = re.compile(r"[\x00-\x20\\\x7f]")
_OCTAL = re.compile(r"\\([0-7]{3})")
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+\.[0-9]+")
_TEXTS = frozenset({"path", "id", "format", "version", "mountpoint"})
_LISTS = frozenset({"buckets"})


def to_text(figures: Figures) -> str:
    """Return one line `group.name value` for each figure, and an empty one between groups.

    Blanks, control characters and backslashes in a text are written in octal,
    as in /proc/mounts.
    """
    groups = ("".join(_lines(name, group)) for name, group in figures.items())
    return "\n".join(group for group in groups if group)


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [line for inner, found in value.items() for line in _lines(f"{name}.{inner}", found)]
    return [f"{name} {_shown(value)}\n"]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.6f}"
    return _SPECIAL.sub(lambda found: f"\\{ord(found[0]):03o}", str(value))


def from_text(text: str) -> Figures:
    """Return the figures that `text` shows. Raises `ValueError` for what is none."""
    figures: Figures = {}
    for line in filter(None, text.split("\n")):
        path, _, shown = line.partition(" ")
        *groups, name = path.split(".")
        inner = figures
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = _read(name, shown)
    return figures


def _read(name: str, shown: str) -> Any:
    if name in _LISTS:
        return [int(number) for number in shown.split()]
    if name in _TEXTS:
        return _OCTAL.sub(lambda found: chr(int(found[1], 8)), shown)
    if _INTEGER.fullmatch(shown):
        return int(shown)
    if _NUMBER.fullmatch(shown):
        return float(shown)
    message = f"no figure: {name} {shown}"
    raise ValueError(message)
