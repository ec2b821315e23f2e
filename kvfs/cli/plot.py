"""The segments of a store as a picture: `kvfs stat --plot`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kvfs.errors import ConfigError, KvfsError

if TYPE_CHECKING:
    from kvfs.store.stat import StoreStat

_FORMATS = {".svg": "svg", ".png": "png", ".pdf": "pdf"}
_SHARES = {"live": "#2e7d32", "historic": "#f9a825", "dead": "#c62828"}
_MIB = 1024 * 1024
_LABELS = 12
"""So many segments are named at most."""


def draw(found: StoreStat, path: str) -> None:
    """Draw a bar for each segment, with its live, historic and dead bytes, to the file `path`.

    Its suffix says the format. Raises `ConfigError` for another one, and
    `KvfsError` where matplotlib is missing, or the file cannot be written.
    """
    form = _FORMATS.get(os.path.splitext(path)[1].lower())
    if form is None:
        message = f"{path} ends in none of {', '.join(_FORMATS)}, which say what is drawn"
        raise ConfigError(message, errno.EINVAL)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        message = "drawing needs matplotlib; install it with: pip install 'kvfs[plot]'"
        raise KvfsError(message, errno.ENOSYS) from None
    with mpl.rc_context({"svg.hashsalt": found.id, "font.family": "sans-serif"}):
        figure = Figure(figsize=(10, 4), layout="constrained")
        axes = figure.add_subplot()
        positions = list(range(len(found.segments)))
        bottom = [0.0] * len(positions)
        for share, colour in _SHARES.items():
            heights = [getattr(segment, share) / _MIB for segment in found.segments]
            axes.bar(positions, heights, 0.9, bottom, color=colour, label=share)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        step = -(-len(positions) // _LABELS) or 1
        names = [segment.name.partition(".")[0].lstrip("0") for segment in found.segments]
        axes.set_xticks(positions[::step], names[::step])
        axes.set_xlabel("segment")
        axes.set_ylabel("MiB")
        name = os.fsencode(found.path).decode(errors="replace")
        axes.set_title(name, parse_math=False)
        axes.legend()
        try:
            figure.savefig(path, format=form)
        except OSError as error:
            message = f"{path} cannot be written: {error.strerror}"
            raise KvfsError(message, error.errno) from error
