"""The plots of a sitting: SVG files, the same bytes for the same numbers.

One figure for each kind of work shows the medians of all peers on a scale of powers of ten, and one
shows the ratios with their targets.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from works import of_group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from results import Results, Verdict

_FIGURES = {
    "files": ("Small files, us each", "mount", ("files",)),
    "shell": ("Shell loops, us a file", "mount", ("shell",)),
    "trees": ("Directories and source trees, ms", "mount", ("listing", "tree")),
    "streams": ("Streams, MB/s: more is better", "mount", ("streams",)),
    "disk": ("Durable files and random reads, us each", "mount", ("fsync", "random")),
    "library": ("Libraries, us each", "library", ("library",)),
}
# Colours that stay apart for the colour-blind too (Okabe and Ito), kvfs the strongest.
_COLOURS = ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#999999", "#cc79a7", "#e69f00")


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots into `folder` and return them. Raises `ImportError` without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "kvfs", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, (title, kind, groups) in _FIGURES.items():
        works = [w.key for group in groups for w in of_group(group) if results.has(w.key)]
        path = folder / f"{name}.svg"
        if works:
            _bars(results, title, kind, works, path)
            drawn.append(path)
        else:
            path.unlink(missing_ok=True)
    path = folder / "ratios.svg"
    if verdicts := [v for v in results.verdicts() if v.target.against]:
        _ratios(verdicts, results, path)
        drawn.append(path)
    else:
        path.unlink(missing_ok=True)
    return drawn


def _bars(results: Results, title: str, kind: str, works: list[str], path: Path) -> None:
    from matplotlib import pyplot as plt

    peers = {k: p["title"] for k, p in results.peers(kind).items() if not p["missing"]}
    thick = 0.8 / max(len(peers), 1)
    figure, axes = plt.subplots(figsize=(8, 0.8 + len(works) * (0.12 * len(peers) + 0.14)))
    for place, (peer, name) in enumerate(peers.items()):
        values = [results.median(work, peer) or 0 for work in works]
        heights = [row + (place - (len(peers) - 1) / 2) * thick for row in range(len(works))]
        colour = _COLOURS[place % len(_COLOURS)]
        bars = axes.barh(heights, values, thick * 0.9, label=name, color=colour)
        axes.bar_label(bars, [_short(v) for v in values], padding=2, fontsize=6.5)
    axes.set_yticks(range(len(works)), [_plain(results.title(work)) for work in works])
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.02)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    _finish(axes)
    columns = min(len(peers), 7)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    _save(figure, path)


def _plain(text: str) -> str:
    """Return `text` so that matplotlib takes nothing in it for a formula."""
    return text.replace("$", r"\$")


def _short(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratios(verdicts: list[Verdict], results: Results, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.19 * len(verdicts)))
    for row, verdict in enumerate(verdicts):
        found, colour = verdict.found, _COLOURS[1] if verdict.reached else _COLOURS[0]
        axes.plot([found.least, found.greatest], [row, row], color=colour, linewidth=1)
        axes.plot([found.middle], [row], "o", color=colour, markersize=4)
        axes.plot([verdict.target.at_most], [row], "|", color="black", markersize=8)
    named = [(results.title(v.target.work), results.peer(v.target.against)) for v in verdicts]
    labels = [_plain(f"{work}  /  {peer}") for work, peer in named]
    axes.set_yticks(range(len(verdicts)), labels)
    axes.set_xscale("log")
    axes.axvline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    title = "Times of kvfs to those of others (dots, all rounds: lines) and targets (bars)"
    axes.set_title(title, loc="left", fontsize=10)
    _finish(axes)
    _save(figure, path)


def _finish(axes: Axes) -> None:
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.set_layout_engine("constrained")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
