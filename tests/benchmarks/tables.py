"""The tables of a sitting, and how they are shown: on a terminal by rich, in docs as Markdown.

A `Table` is only words; what it says is the same in both places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table as RichTable
from rich.text import Text
from works import GROUPS, ON_MOUNTS, WORKS, of_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from results import Results
    from rich.console import Console

MISSING = "-"


class Table(NamedTuple):
    """A title, the names of the columns, rows of words, and lines to be read below."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def number(value: float | None) -> str:
    """Return a value with three figures that count."""
    if value is None:
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def tables(results: Results) -> list[Table]:
    """Return all tables for which there is anything to show."""
    made = [
        _times("On mounts", results, "mount", ON_MOUNTS),
        _ratios("On mounts, kvfs to the others", results, "mount", ON_MOUNTS),
        _times("Libraries", results, "library", ("library",)),
        _ratios("Libraries, kvfs to the others", results, "library", ("library",)),
        _alone(results),
        _targets(results),
    ]
    return [table for table in made if table.rows]


def _works(results: Results, groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the key and the title of each work of `groups` that was done."""
    for group in groups:
        for work in of_group(group):
            if results.has(work.key):
                yield work.key, results.title(work.key)


def _missing(results: Results, kind: str) -> list[str]:
    peers = results.peers(kind)
    gone = [f"{p['title']} is missing: {p['missing']}." for p in peers.values() if p["missing"]]
    found = [
        f"{failure['peer']} failed in round {failure['round'] + 1}, {failure['what']}:"
        f" {failure['reason']}."
        for failure in results.about["failures"]
        if failure["peer"] in peers and (failure["what"] == "library") == (kind == "library")
    ]
    return gone + found


def _settings(results: Results, kind: str) -> list[str]:
    return [
        f"{p['title']} {p.get('version', '')}".strip() + f": {p['settings']}."
        for p in results.peers(kind).values()
    ]


def _times(title: str, results: Results, kind: str, groups: Iterable[str]) -> Table:
    peers = results.peers(kind)
    rows = [
        [name, WORKS[work].unit, *(number(results.median(work, peer)) for peer in peers)]
        for work, name in _works(results, groups)
    ]
    head = ["", "unit", *(peer["title"] for peer in peers.values())]
    return Table(title, head, rows, [*_settings(results, kind), *_missing(results, kind)])


def _ratios(title: str, results: Results, kind: str, groups: Iterable[str]) -> Table:
    others = [key for key in results.peers(kind) if key != "kvfs"]
    rows = []
    for work, name in _works(results, groups):
        ratios = [results.ratio(work, peer) for peer in others]
        if any(ratios):
            rows.append([name, *(number(ratio and ratio.middle) for ratio in ratios)])
    head = ["", *(results.peers(kind)[key]["title"] for key in others)]
    return Table(title, head, rows, ["Of times: below 1, kvfs is the faster."])


def _alone(results: Results) -> Table:
    rows = [
        [name, WORKS[work].unit, number(results.median(work, "kvfs"))]
        for work, name in _works(results, ("alone",))
    ]
    return Table(GROUPS["alone"], ["", "unit", "kvfs"], rows, [])


def _targets(results: Results) -> Table:
    verdicts = results.verdicts()
    rows = []
    for verdict in verdicts:
        target, found = verdict.target, verdict.found
        against = results.peer(target.against) if target.against else WORKS[target.work].unit
        spread = f"{number(found.least)} to {number(found.greatest)}"
        figures = [number(found.middle), spread, f"{target.at_most:g}", verdict.words]
        rows.append([results.title(target.work), against, *figures])
    reached = sum(verdict.reached for verdict in verdicts)
    head = ["", "compared with", "found", "in the rounds", "at most", ""]
    return Table("Targets", head, rows, [f"{reached} of {len(rows)} are reached."])


def show(table: Table, console: Console) -> None:
    """Print a table on a terminal."""
    shown = RichTable(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
    for place, name in enumerate(table.head):
        shown.add_column(name, justify="left" if place == 0 else "right")
    for row in table.rows:
        late = row[-1].startswith("missed")
        shown.add_row(*(Text(cell, style="yellow" if late else "") for cell in row))
    console.print(shown)
    for note in table.notes:
        console.print(Text(note.replace("`", ""), style="dim"))
    console.print()


def markdown(table: Table) -> str:
    """Return a table as Markdown, its notes as a list below."""
    lines = [f"### {table.title}", "", _line(table.head)]
    lines.append(_line(["---"] + ["--:"] * (len(table.head) - 1)))
    lines += [_line([cell.replace("|", "\\|") for cell in row]) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
