"""The verbs that tell how to use the others."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import examples
from kvfs.cli.shells import SCRIPTS


@click.command(
    "completion",
    epilog=examples(
        "source <(kvfs completion bash)",
        "kvfs completion zsh > /usr/local/share/zsh/site-functions/_kvfs",
        "kvfs completion fish > ~/.config/fish/completions/kvfs.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion_command(shell: str) -> None:
    """Print what lets a shell complete verbs, options and keys.

    Keys are completed one component after the other, like file names; through
    the mount, if the store has one.
    """
    sys.stdout.write(SCRIPTS[shell])


@click.command("help", epilog=examples("kvfs help get", "kvfs help snapshot create"))
@click.argument("verbs", metavar="[VERB]...", nargs=-1)
@click.pass_context
def help_command(context: click.Context, verbs: tuple[str, ...]) -> None:
    """Show how to use VERB, as VERB --help does."""
    at = context.find_root()
    for verb in verbs:
        command = at.command
        if not isinstance(command, click.Group):
            message = f"{at.command_path} has no verbs of its own"
            raise click.UsageError(message, at)
        name, found, _ = command.resolve_command(at, [verb])
        assert found is not None
        at = click.Context(found, parent=at, info_name=name)
    click.echo(at.get_help())


@click.command("man", epilog=examples("kvfs man | man -l -", "kvfs man > kvfs.1"))
@click.pass_context
def man_command(context: click.Context) -> None:
    """Print the manual page kvfs(1), for man."""
    from kvfs.cli.man import page

    sys.stdout.write(page(context.find_root().command))
