"""The manual page kvfs(1), in the macros of man(7), from the help of the verbs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from kvfs import __version__
from kvfs.cli.main import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTION = """\
kvfs keeps a key-value store in a directory, as a log of records in segments of limited size, and
mounts it, so that each key is a file. Reading verbs read the log beside whoever writes; writing
verbs go through the mount if the store has one.

A key or a value that begins with - goes behind --. Where WHEN is asked for, it is a sequence number
as kvfs log shows it, a time such as 2026-11-28T12:30, how long ago, such as '2h ago', or the name of
a snapshot. With --json a verb prints JSON in UTF-8: one object, or one a line where there may be
many. What is no text is under a name with _base64 at its end."""
_ENVIRONMENT = {
    "KVFS_DEBUG": "If it is set, a bug in kvfs shows where it comes from.",
    "NO_COLOR": "If it is set, nothing is coloured. Else that is done on a terminal alone.",
}
_FILES = {
    "STORE/store.toml": "What the store is. Its presence makes a directory a store.",
    "STORE/segments/": "The log.",
    "STORE/checkpoints/": "What the log comes to, so that opening a store is fast.",
    "STORE/snapshots/": "The snapshots.",
    "STORE/quarantine/": "What was cut off the log, or replaced by a repair.",
    "STORE/daemon.log": "What the daemon of a mount has to say.",
    "MOUNTPOINT/.kvfs/": "Keys that are no paths, and the past of the store.",
}
_SEE_ALSO = ("fusermount3 (1)", "mount (8)", "umount (8)")


def page(cli: click.Command) -> str:
    """Return the manual page of the command `cli`."""
    return "\n".join(_page(click.Context(cli, info_name="kvfs"))) + "\n"


def _page(root: click.Context) -> Iterator[str]:
    yield f'.TH KVFS 1 "" "kvfs {__version__}" "User Commands"'
    yield from (".SH NAME", r"kvfs \- a key\-value store that is a directory")
    yield from (".SH SYNOPSIS", *_usage(root))
    yield ".SH DESCRIPTION"
    yield from _prose(_DESCRIPTION)
    yield from _options(root)
    yield ".SH VERBS"
    assert isinstance(root.command, click.Group)
    for name in root.command.list_commands(root):
        yield from _verb(root, name)
    yield ".SH EXIT STATUS"
    yield from _prose(STATUSES)
    for title, entries in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {title}"
        for name, meaning in entries.items():
            yield from (".TP", f".B {_text(name)}", _text(meaning))
    yield ".SH SEE ALSO"
    yield " ,\n".join(f".BR {name}" for name in _SEE_ALSO)


def _verb(parent: click.Context, name: str) -> Iterator[str]:
    """Yield what is said of one verb, and of those below it."""
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None
    context = click.Context(command, parent=parent, info_name=name)
    yield from (".SS", *_usage(context))
    yield from _prose(command.help or "")
    yield from _options(context)
    lines = re.findall(r"^  \$ (.*)$", command.epilog or "", re.MULTILINE)
    if lines:
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS 4", *map(_text, lines), ".RE", ".fi")
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _verb(context, below)


def _usage(context: click.Context) -> Iterator[str]:
    """Yield the line that shows how the command is called."""
    pieces = " ".join(context.command.collect_usage_pieces(context))
    yield rf"\fB{_text(context.command_path)}\fR \fI{_text(pieces)}\fR"


def _options(context: click.Context) -> Iterator[str]:
    """Yield a paragraph for each option."""
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and "--help" not in parameter.opts:
            yield from (".TP", rf"\fB{_text(record[0])}\fR", _text(record[1]))


def _prose(text: str) -> Iterator[str]:
    """Yield paragraphs of text; an empty line is between two."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Return `text` so that roff takes nothing of it for a request, and copies of it can be pasted."""
    plain = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha")
    )
    plain = plain.replace("`", r"\(ga").replace("~", r"\(ti")
    return rf"\&{plain}" if plain.startswith(".") else plain
