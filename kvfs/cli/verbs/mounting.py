"""The verbs that make a store, mount it and end that."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kvfs.cli.arguments import AT, HISTORY, JSON, MOUNTPOINT, PATH, SIZE, ByteSize, examples
from kvfs.cli.output import print_json
from kvfs.config import DEFAULT_HISTORY, DEFAULT_SEGMENT_SIZE, FORMATS
from kvfs.store.keeping import DEFAULT, Policy

if TYPE_CHECKING:
    from kvfs.metrics import Address


@click.command(
    "init",
    epilog=examples(
        "kvfs init store",
        "kvfs init store --keep-history '7 days,10GiB'",
        "kvfs init lines --format text --max-segment-size 8MiB",
    ),
)
@click.argument("store", type=PATH)
@click.option(
    "--keep-history", metavar="HISTORY", default=DEFAULT_HISTORY, show_default=True, help=HISTORY
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="binary",
    show_default=True,
    help="How records are written: with checksums, or as lines to read.",
)
@click.option(
    "--max-segment-size",
    type=SIZE,
    default=ByteSize(DEFAULT_SEGMENT_SIZE),
    show_default=True,
    help="Size at which a segment is closed, such as 64MiB.",
)
@JSON
def init_command(
    store: str, form: str, max_segment_size: int, keep_history: str, as_json: bool
) -> None:
    """Make a new store in a new or empty directory."""
    from kvfs import init

    made = init(store, format=form, max_segment_size=max_segment_size, keep_history=keep_history)
    if as_json:
        print_json(
            {
                "store": os.path.abspath(store),
                "format": made.format,
                "id": made.id.hex(),
                "created": made.created,
                "max_segment_size": made.max_segment_size,
                "keep_history": made.keep_history,
            }
        )


@click.command(
    "mount",
    epilog=examples(
        "kvfs mount store mnt",
        "kvfs mount -f -o noatime,allow_other store mnt",
        "kvfs mount --at '2h ago' store past",
    ),
)
@click.argument("store", type=PATH)
@click.argument("mountpoint", type=PATH)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground until unmounted.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPTION,...",
    help="Options as of mount(8); all those below are some too.",
)
@click.option("--read-only", is_flag=True, help="Allow no changes.")
@AT
@click.option(
    "--busy-poll/--no-busy-poll",
    default=True,
    show_default=True,
    help="Look for the next request, or share the CPU of who sends it, before sleeping.",
)
@click.option(
    "--durability",
    type=click.Choice(["fsync", "always"]),
    default="fsync",
    show_default=True,
    help="What waits for the disk: fsync(2) alone, or every close(2) as well.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    metavar="RECORDS",
    help="Make a checkpoint after so many records, and not when it is worth its cost.",
)
@click.option("--keep-history", metavar="HISTORY", help=f"{HISTORY} From now on; kept in STORE.")
@click.option(
    "--compact-share",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=DEFAULT.share,
    show_default=True,
    help="Compact when so large a share of the segments is dead.",
)
@click.option(
    "--compact-size",
    type=SIZE,
    default=ByteSize(DEFAULT.size),
    show_default=True,
    help="Compact when so many bytes are dead at least.",
)
@click.option(
    "--metrics",
    metavar="ADDRESS",
    help="Serve Prometheus metrics at a port of this machine (9100), or at 0.0.0.0:9100.",
)
@JSON
def mount_command(
    store: str,
    mountpoint: str,
    foreground: bool,
    options: tuple[str, ...],
    read_only: bool,
    at: str | None,
    busy_poll: bool,
    durability: str,
    checkpoint_every: int | None,
    keep_history: str | None,
    compact_share: float,
    compact_size: int,
    metrics: str | None,
    as_json: bool,
) -> None:
    """Mount STORE at the empty directory MOUNTPOINT.

    Returns once the mount answers.
    """
    from kvfs import daemon
    from kvfs.cli.mount_options import with_words
    from kvfs.serving import MountOptions

    chosen = MountOptions(
        read_only=read_only,
        at=at,
        busy_poll=busy_poll,
        durability=durability,
        checkpoint_every=checkpoint_every,
        keep_history=keep_history,
        compact=Policy(compact_share, compact_size),
        metrics=_address(metrics),
    )
    chosen = with_words(chosen, options)

    def tell(pid: int) -> None:
        if as_json:
            where = {"store": os.path.abspath(store), "mountpoint": os.path.abspath(mountpoint)}
            print_json({**where, "pid": pid, "read_only": chosen.read_only})
            sys.stdout.flush()

    if foreground:
        daemon.serve(store, mountpoint, chosen, lambda: tell(os.getpid()))
    else:
        tell(daemon.start(os.path.abspath(store), os.path.abspath(mountpoint), chosen))


@click.command("unmount", epilog=examples("kvfs unmount mnt", "kvfs unmount --lazy mnt"))
@click.argument("mountpoint", type=MOUNTPOINT)
@click.option("-l", "--lazy", is_flag=True, help="Let who has files open go on; do not wait.")
@JSON
def unmount_command(mountpoint: str, lazy: bool, as_json: bool) -> None:
    """End the mount at MOUNTPOINT.

    Returns once everything is synced.
    """
    from kvfs import daemon, mounts
    from kvfs.disk import Disk

    mount = mounts.find(mountpoint)
    daemon.unmount(mountpoint, Disk(), lazy=lazy)
    if as_json and mount:
        print_json({"store": mount.store, "mountpoint": mount.mountpoint})


def _address(text: str | None) -> Address | None:
    if text is None:
        return None
    from kvfs.metrics import Address

    return Address.parse(text)


@click.command("status", epilog=examples("kvfs status", "kvfs status mnt --json"))
@click.argument("what", metavar="[STORE|MOUNTPOINT]", type=PATH, required=False)
@JSON
def status_command(what: str | None, as_json: bool) -> None:
    """List your mounts (root: all) and how they are.

    With STORE or MOUNTPOINT, only its own; exit with 1 unless it is mounted and answers.
    """
    from kvfs.cli.status import show_status

    if not show_status(what, as_json=as_json):
        sys.exit(1)
