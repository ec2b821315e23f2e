"""The command line of the benchmark; `run.sh` sets up what is needed and calls it.

A mistake in the arguments is one line on standard error and status 2; an interruption is 130, and
everything is ended and removed before.
"""

from __future__ import annotations

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click
import environment
import library_peers
import measuring
import mount_peers
import page
import plots
import tables
from processes import Failure
from results import Results
from rich.console import Console
from scratch import place, scratch
from works import QUICK, Counts, Mistake, chosen

_REPOSITORY = Path(__file__).resolve().parents[2]
_OPEN_FILES = 65_536  # passthrough_ll holds one for every file that the kernel knows
_WIDTH = 120  # columns of tables that go to no terminal
_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_log = Console(stderr=True, highlight=False, soft_wrap=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Small counts, to see that everything works.")
@click.option("--only", metavar="WORK,...", help="Measure only these works, or groups of works.")
@click.option("--peers", metavar="PEER,...", help="Measure only these peers.")
@click.option(
    "--out",
    type=_DIRECTORY,
    help="Where benchmarks.md and the directory benchmarks go. Default: docs; with --quick, --only"
    " or --peers tests/benchmarks/out.",
)
@click.option("--scratch", "wanted", type=_DIRECTORY, help="The directory to work below.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="RESULTS.JSON",
    help="Measure nothing; make tables and plots from these results.",
)
@click.pass_context
def cli(
    context: click.Context,
    rounds: int,
    quick: bool,
    only: str | None,
    peers: str | None,
    out: Path | None,
    wanted: Path | None,
    report: Path | None,
) -> None:
    """Measure kvfs and its peers in one sitting, and show how they compare."""
    if report is not None:
        used = [name for name in context.params if name not in {"report", "out"}]
        given = [name for name in used if context.get_parameter_source(name).name != "DEFAULT"]
        if given:
            raise click.UsageError("--report measures nothing; only --out goes with it")
        results = Results.load(report)
    else:
        works, names = chosen(only), _peers(peers)
        counts = QUICK if quick else Counts()
        parent = place(wanted, measuring.room(counts))
        partial = only is not None or peers is not None
        results = _measure(parent, counts, works, names, rounds, quick=quick, partial=partial)
    usual = results.about["quick"] or results.about["partial"]
    out = out or _REPOSITORY / ("tests/benchmarks/out" if usual else "docs")
    if report is None:
        results.save(out / "benchmarks" / "results.json")
    _report(results, out)


def _peers(words: str | None) -> frozenset[str]:
    """Return the keys of the peers that a list names; all for None. Raises `Mistake`."""
    known = [peer.key for peer in mount_peers.peers()] + list(library_peers.PEERS)
    if words is None:
        return frozenset(known)
    keys = {word.strip() for word in words.split(",")} - {""}
    for key in sorted(keys - set(known)):
        raise Mistake(f"no peer {key!r}; there are {', '.join(dict.fromkeys(known))}")
    if not keys:
        raise Mistake("no peer is named")
    return frozenset(keys)


def _measure(
    parent: Path,
    counts: Counts,
    works: frozenset[str],
    names: frozenset[str],
    rounds: int,
    *,
    quick: bool,
    partial: bool,
) -> Results:
    _allow_open_files()
    on_mounts = [peer for peer in mount_peers.peers() if peer.key in names]
    to_open = [key for key in library_peers.PEERS if key in names]
    with scratch(parent) as directory:
        _log.print(f"working in {directory}")
        known = {
            "mount": {p.key: _known(p) for p in on_mounts},
            "library": measuring.libraries(to_open, _log.print),
        }
        about = environment.about(directory, known, counts._asdict(), _log.print)
        results = Results({"quick": quick, "partial": partial, "rounds": rounds, **about})
        sitting = measuring.Sitting(results, directory, counts, works, _log.print)
        sitting.measure(on_mounts, to_open, rounds)
    return results


def _known(peer: mount_peers.MountPeer) -> dict[str, str | None]:
    return {"title": peer.title, "settings": peer.settings, "missing": None}


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(_OPEN_FILES, hard), hard):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_OPEN_FILES, most)), most))
            return


def _report(results: Results, out: Path) -> None:
    made = tables.tables(results)
    terminal = Console(highlight=False)
    console = terminal if terminal.is_terminal else Console(highlight=False, width=_WIDTH)
    for table in made:
        tables.show(table, console)
    try:
        drawn = plots.draw(results, out / "benchmarks")
    except ImportError:
        drawn = []
        _log.print("no plots: matplotlib is not installed")
    path = out / "benchmarks.md"
    page.write(results, made, drawn, path)
    _log.print(f"written: {path} and {len(drawn)} plots in {out / 'benchmarks'}")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"benchmarks: {' '.join(message.split())}\n")
    sys.exit(status)


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        _fail(f"{error.format_message().rstrip('.')}; see --help", 2)
    except Mistake as error:
        _fail(str(error), 2)
    except (Failure, OSError) as error:
        _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; everything is ended and removed", 130)


if __name__ == "__main__":
    main()
