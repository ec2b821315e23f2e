"""What the site has that no file in `docs` holds: the command line, and pages from elsewhere.

`mkdocs` calls the functions named `on_...`. The reference of the command line
is made from the commands themselves, so it cannot be out of date.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
COMMANDS = "commands.md"
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "tests/benchmarks/README.md": "benchmarking.md",
}
"""The pages of the site that lie elsewhere in the repository."""
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, or lie elsewhere."""
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links between files of the repository to the pages that they are here."""
    pages = {page: source for source, page in ELSEWHERE.items()}
    here = page.file.src_uri
    source = pages.get(here, f"docs/{here}")

    def place(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        shown = ELSEWHERE.get(target) or target.removeprefix("docs/")
        return posixpath.relpath(shown, posixpath.dirname(here) or ".")

    return _LINK.sub(place, markdown)


def commands_page() -> str:
    """Return the reference of the command line, in Markdown."""
    os.environ["NO_COLOR"] = "1"
    from kvfs.cli.main import cli

    lines = [
        "# The command line",
        "",
        "This page is made from the commands: `kvfs VERB --help` says the same.",
        "",
    ]
    lines += _sections(cli, None, "kvfs")
    return "\n".join(lines)


def _sections(command: click.Command, above: click.Context | None, name: str) -> Iterator[str]:
    """Give the lines of a command, and of those below it."""
    context = click.Context(command, info_name=name, parent=above)
    if not command.hidden:
        yield from _section(context)
    if isinstance(command, click.Group):
        for verb in sorted(command.list_commands(context)):
            below = command.get_command(context, verb)
            assert below is not None, verb
            yield from _sections(below, context, verb)


def _section(context: click.Context) -> Iterator[str]:
    """Give the lines of one command."""
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (
        f"## {context.command_path}",
        "",
        "```text",
        f"{context.command_path} {usage}",
        "```",
    )
    yield from ("", *_paragraphs(command.help or ""), "", *_paragraphs(command.epilog or ""), "")
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    options = [record for record in records if record and record[1] and "--help" not in record[0]]
    if options:
        yield from ("| option | |", "|---|---|")
        yield from (f"| `{names}` | {_cell(text)} |" for names, text in options)
        yield ""


def _paragraphs(text: str) -> Iterator[str]:
    r"""Give the lines of a help text; a paragraph that begins with \b stays as it is."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b").strip("\n"), "```", "")
        else:
            yield from (_escaped(paragraph), "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_])", r"\\\1", text)
