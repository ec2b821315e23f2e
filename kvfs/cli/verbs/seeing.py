"""The verbs that show how a store is, and what its mount does."""

from __future__ import annotations

import click

from kvfs.cli.arguments import JSON, PATH, examples

_SHORTEST = 0.05


@click.command(
    "stat",
    epilog=examples(
        "kvfs stat store", "kvfs stat store --json", "kvfs stat store --plot store.svg"
    ),
)
@click.argument("store", type=PATH)
@click.option(
    "--plot",
    metavar="FILE.svg",
    type=PATH,
    help="Draw the segments as well, as .svg, .png or .pdf.",
)
@JSON
def stat_command(store: str, plot: str | None, as_json: bool) -> None:
    """Show what STORE is, who has it open, and how it is."""
    from kvfs.cli.stat import show_stat

    show_stat(store, as_json=as_json, plot=plot)


@click.command("top", epilog=examples("kvfs top mnt", "kvfs top store --once --json"))
@click.argument("path", metavar="STORE|MOUNTPOINT", type=PATH)
@click.option(
    "--interval",
    type=click.FloatRange(_SHORTEST),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is refreshed.",
)
@click.option("--once", is_flag=True, help="Print one interval, and end.")
@JSON
def top_command(path: str, interval: float, once: bool, as_json: bool) -> None:
    """Show what a mount is doing, as it goes on.

    Until q or Ctrl-C; where that is no terminal, in lines.
    """
    from kvfs.cli.top import show_top

    show_top(path, interval, once=once, as_json=as_json)
