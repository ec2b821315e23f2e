"""The page of the benchmarks: tables and plots between two marks, the rest written by hand.

What is outside of the marks is never touched; a page that is not there is made with a header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tables import markdown
from works import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from results import Results
    from tables import Table

BEGIN, END = "<!-- tables begin -->", "<!-- tables end -->"

_HEADER = f"""# Benchmarks

kvfs beside others that do the same work on the same disk. Everything below the next line is made by
`bash tests/benchmarks/run.sh`; [its README](../tests/benchmarks/README.md) says what each number is.

All peers take turns within each round, so that they meet the same load. Times are medians over the
rounds; a ratio is the median of the ratios within the rounds. It compares like with like only where
the peers promise alike: passthrough_ll and a local directory promise nothing for what was closed,
JuiceFS has put it into its store, kvfs has logged it.

{BEGIN}
{END}
"""


def write(results: Results, tables: Iterable[Table], plots: Iterable[Path], page: Path) -> None:
    """Put tables and plots into the page. Raises `Mistake` if its marks are not in order."""
    text = page.read_text(encoding="utf-8") if page.exists() else _HEADER
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise Mistake(f"{page} needs one line {BEGIN} and, below it, one line {END}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.parent.mkdir(parents=True, exist_ok=True)
    content = _content(results, tables, plots, page)
    page.write_text(f"{before}{BEGIN}\n{content}{END}{after}", encoding="utf-8")


def _content(results: Results, tables: Iterable[Table], plots: Iterable[Path], page: Path) -> str:
    parts = [_about(results)]
    parts += [f"{markdown(table)}\n" for table in tables]
    for plot in plots:
        parts.append(f"![{plot.stem}]({plot.relative_to(page.parent)})\n\n")
    return "".join(parts)


def _about(results: Results) -> str:
    about = results.about
    machine = about["machine"]
    rounds = about["rounds"]
    lines = [f"Measured {about['made']}, {rounds} round{'s' if rounds != 1 else ''}."]
    if about["quick"]:
        lines.append("**With small counts (`--quick`): this only shows that it works.**")
    if about["partial"]:
        lines.append("Only some works or peers were asked for.")
    known = [
        f"{name} {value}"
        for name, value in machine.items()
        if isinstance(value, str) and value != "unknown"
    ]
    lines.append(f"{machine['cores']} processors; {'; '.join(known)}.")
    lines.append(f"The load of the machine was {machine['load at the start']} at the start.")
    groups = machine["block groups"]
    lines.append(
        "What a file costs on ext4 depends on the block group of its directory: making an empty one"
        f" took {groups['spread']:g} us where the peers have their directories, each in a group of"
        f" its own, and {groups['near']:g} us in the group of the directory above. kvfs makes few"
        " files of its own, so this moves only the ratios to the others; see the README."
    )
    if not machine["root"]:
        lines.append("Not run as root: what is called cold may have been in the kernel's cache.")
    return "\n".join(lines) + "\n\n"
