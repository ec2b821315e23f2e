"""The command `kvfs`: which verbs there are, and what becomes of their errors."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from kvfs import __version__
from kvfs.cli.output import fail, printing
from kvfs.errors import in_words

VERBS = {
    "init": "mounting",
    "mount": "mounting",
    "unmount": "mounting",
    "status": "mounting",
    "put": "keys",
    "get": "keys",
    "delete": "keys",
    "version": "keys",
    "list": "keys",
    "log": "past",
    "diff": "past",
    "restore": "past",
    "undo": "past",
    "snapshot": "past",
    "watch": "watch",
    "export": "moving",
    "import": "moving",
    "backup": "moving",
    "verify": "moving",
    "check": "care",
    "repair": "care",
    "stat": "seeing",
    "top": "seeing",
    "compact": "care",
}
"""The module of `kvfs.cli.verbs` that has each verb, as the function or group `VERB_command`."""


class Verbs(click.Group):
    """The verbs of `VERBS`, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb `cmd_name`, if there is one."""
        module = VERBS.get(cmd_name)
        if module is None:
            return None
        found = getattr(import_module(f"kvfs.cli.verbs.{module}"), f"{cmd_name}_command")
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="kvfs")
def cli() -> None:
    """Keep a key-value store in a directory, and mount it as files."""


def main() -> NoReturn:
    """Run the command line and exit with its status.

    With KVFS_DEBUG in the environment, a bug shows its traceback.
    """
    if sys.stdin is None or sys.stdout is None:
        fail("standard input and standard output must be open", 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no name is a reason to fail
    logging.basicConfig(format="kvfs: %(message)s", level=logging.WARNING)
    try:
        # Not cli.main, which would make a failure of a reader that stops early.
        with printing(), cli.make_context("kvfs", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(2)
    except click.ClickException as error:
        at = getattr(error, "ctx", None)
        where = f"; see: {at.command_path} --help" if at else ""
        fail(error.format_message().rstrip(".") + where, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get("KVFS_DEBUG"):
            raise
        fail(_explain(error), 1)
    sys.exit(0)


def _explain(error: Exception) -> str:
    """Return what went wrong in one sentence."""
    if isinstance(error, OSError):
        return in_words(error)
    if isinstance(error, ImportError):
        return f"kvfs is not installed completely ({error}); run: ./mount.sh --setup"
    return f"this is a bug in kvfs: {error!r}; KVFS_DEBUG=1 shows where it comes from"
