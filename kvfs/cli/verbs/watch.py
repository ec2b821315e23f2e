"""The verb that shows changes as they come."""

from __future__ import annotations

import click

from kvfs.cli.arguments import JSON, KEY, PATH, examples


@click.command(
    "watch",
    epilog=examples("kvfs watch store config/", "kvfs watch store --json --values --count 1"),
)
@click.argument("store", type=PATH)
@click.argument("prefix", type=KEY, required=False, default=b"")
@click.option(
    "--from",
    "from_",
    type=click.IntRange(min=0),
    metavar="SEQUENCE",
    help="Begin with change SEQUENCE, or the first behind it; without, with what comes next.",
)
@JSON
@click.option("--values", is_flag=True, help="With --json, add the value that each change left.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N changes.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after SECONDS; exit with 1 if N changes did not come by then.",
)
def watch_command(
    store: str,
    prefix: bytes,
    from_: int | None,
    as_json: bool,
    values: bool,
    count: int | None,
    timeout: float | None,
) -> None:
    """Show what changes in STORE, as it comes.

    A line each, beside a mount or alone. With PREFIX, only changes of keys that begin with it. Who has seen change SEQUENCE goes
    on with --from SEQUENCE+1 without missing any.
    """
    if values and not as_json:
        raise click.UsageError("--values needs --json")
    from kvfs.cli.watch import Watching, show_changes

    show_changes(store, Watching(prefix, from_, values, count, timeout), as_json=as_json)
