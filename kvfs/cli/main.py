"""The command `kvfs`: which verbs there are, and what becomes of their errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from kvfs import __version__
from kvfs.cli.output import fail, prepare, printing
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
    "completion": "manual",
    "help": "manual",
    "man": "manual",
}
"""The module of `kvfs.cli.verbs` that has each verb, as the function or group `VERB_command`."""


TOPICS = {
    "mounting": "Stores and mounts",
    "keys": "Keys",
    "past": "The past and what comes",
    "watch": "The past and what comes",
    "moving": "In and out",
    "care": "Care",
    "seeing": "Care",
    "manual": "Help",
}
"""What `kvfs --help` calls the verbs of each module."""

STATUSES = """Exit statuses: 0 success; 1 failure, also a key that is not there, or damage that check
or verify found; 2 wrong usage; 130 interrupted."""


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that `args` begin with. Raises `click.UsageError`, with what may be meant."""
        name = args[0]
        if name in VERBS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        meant = " or ".join(map(repr, get_close_matches(name, VERBS)))
        message = f"No such verb {name!r}." + (f" Did you mean {meant}?" if meant else "")
        raise click.UsageError(message, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by topic."""
        width = max(map(len, VERBS))
        topics: dict[str, list[tuple[str, str]]] = {}
        for name, module in VERBS.items():
            verb = self.get_command(ctx, name)
            assert verb is not None
            row = (name.ljust(width), verb.get_short_help_str(limit=formatter.width))
            topics.setdefault(TOPICS[module], []).append(row)
        for topic, rows in topics.items():
            with formatter.section(topic):
                formatter.write_dl(rows)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="VERB [ARGS]...",
    epilog=STATUSES,
)
@click.version_option(__version__, prog_name="kvfs", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep a key-value store in a directory, and mount it as files."""


def main() -> NoReturn:
    """Run the command line and exit with its status.

    With KVFS_DEBUG in the environment, a bug shows its traceback.
    """
    if sys.stdin is None or sys.stdout is None:
        fail("standard input and standard output must be open", 1)
    prepare()
    logging.basicConfig(format="kvfs: %(message)s", level=logging.WARNING)
    try:
        if shell := os.environ.get("_KVFS_COMPLETE"):
            from kvfs.cli.completion import answer

            with printing():
                answer(cli, shell, sys.argv[1:])
            sys.exit(0)
        # Not cli.main, which would make a failure of a reader that stops early.
        with printing(), cli.make_context("kvfs", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(2)
    except click.ClickException as error:
        fail(_usage(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get("KVFS_DEBUG"):
            raise
        fail(_explain(error), 1)
    sys.exit(0)


def _usage(error: click.ClickException) -> str:
    """Return what is wrong with the command, and where to look that up."""
    message = error.format_message().rstrip(".")
    at = getattr(error, "ctx", None)
    if at is None:
        return message
    return f"{message}{' See' if message.endswith('?') else '; see'}: {at.command_path} --help"


def _explain(error: Exception) -> str:
    """Return what went wrong in one sentence."""
    if isinstance(error, OSError):
        return in_words(error)
    if isinstance(error, ImportError):
        return f"kvfs is not installed completely ({error}); run: ./mount.sh --setup"
    return f"this is a bug in kvfs: {error!r}; KVFS_DEBUG=1 shows where it comes from"
