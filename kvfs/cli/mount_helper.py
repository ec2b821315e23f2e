"""The program `mount.fuse.kvfs`, by which mount(8) mounts a store: for /etc/fstab.

It is called, and ends, as mount(8) has it of the helpers in /sbin.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import click

from kvfs.cli.arguments import PATH
from kvfs.cli.output import fail
from kvfs.errors import in_words

_WRONG_USAGE = 1
_FAILED = 32


@click.command("mount.fuse.kvfs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("store", type=PATH)
@click.argument("mountpoint", type=PATH)
@click.option("-o", "options", multiple=True, metavar="OPT,...", help="As for kvfs mount.")
@click.option("-s", "sloppy", is_flag=True, help="Pass over options that are not known.")
@click.option("-f", "fake", is_flag=True, help="Do all but mount.")
@click.option("-v", "verbose", is_flag=True, help="Say what is done.")
@click.option("-n", "_no_table", is_flag=True, help="Do nothing: there is no table to write.")
@click.option("-t", "kind", metavar="TYPE", default="fuse.kvfs", help="fuse.kvfs.")
def _command(
    store: str,
    mountpoint: str,
    options: tuple[str, ...],
    sloppy: bool,  # noqa: FBT001 - click's
    fake: bool,  # noqa: FBT001 - click's
    verbose: bool,  # noqa: FBT001 - click's
    _no_table: bool,  # noqa: FBT001 - click's
    kind: str,
) -> None:
    """Mount STORE at MOUNTPOINT, for mount(8)."""
    from kvfs import daemon
    from kvfs.cli.mount_options import with_words
    from kvfs.serving import MountOptions

    if kind not in ("fuse.kvfs", "kvfs"):
        message = f"type {kind} is not for kvfs; it is fuse.kvfs"
        raise click.UsageError(message)
    chosen = with_words(MountOptions(), options, sloppy=sloppy)
    if not fake:
        daemon.start(os.path.abspath(store), os.path.abspath(mountpoint), chosen)
    if verbose:
        sys.stdout.write(f"kvfs: {store} mounted on {mountpoint}\n")


def main() -> NoReturn:
    """Run the helper and exit with the status that mount(8) expects."""
    logging.basicConfig(format="kvfs: %(message)s", level=logging.WARNING)
    try:
        _command.main(prog_name="mount.fuse.kvfs", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        fail(error.format_message(), _WRONG_USAGE)
    except click.ClickException as error:
        fail(error.format_message(), _WRONG_USAGE)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted", _FAILED)
    except OSError as error:
        fail(in_words(error), _FAILED)
    sys.exit(0)
