"""What may follow on a command line that is being typed, for the scripts in `shells`.

The first word of the answer is `dir` or `file` where the shell knows best what
there is, else `plain`, and the candidates follow. To bash each is what comes
behind the cursor, quoted as is needed there; to zsh a word and its description,
to fish both with a tab between.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from click.shell_completion import ShellComplete

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

VARIABLE = "_KVFS_COMPLETE"
_BARE, _SINGLE, _DOUBLE, _ANSI = "", "'", '"', "$'"
_TOKEN = re.compile(
    r"""(?P<space>[ \t\n]+)
    | \\(?P<escaped>.?)
    | \$'(?P<ansi>(?:[^'\\]|\\.)*)(?P<ansi_end>'?)
    | '(?P<single>[^']*)(?P<single_end>'?)
    | "(?P<double>(?:[^"\\]|\\.)*)(?P<double_end>"?)
    | (?P<bare>.)""",
    re.DOTALL | re.VERBOSE,
)
_PLAIN = re.compile(r"[\w@%+=:,./^-]", re.ASCII)
_LAST_ASCII = "\x7f"
_NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\x1b": r"\e"}


def answer(cli: click.Command, shell: str, words: list[str]) -> None:
    """Write what may follow `words`, the last of which is unfinished.

    From bash it is one string, the line up to the cursor; from fish the last
    word is as it was typed.
    """
    quotes = _BARE
    if shell == "bash":
        words, quotes = split(words[0])
        words = words[1:]
    elif shell == "fish":
        words = [*words[:-1], split(words[-1])[0][-1]]
    *done, incomplete = words
    shown = ShellComplete(cli, {"obj": done}, "kvfs", VARIABLE)
    found = shown.get_completions(list(done), incomplete)
    if "--" not in done and not incomplete.startswith("-"):
        found = [item for item in found if not item.value.startswith("-")]
    kind = found[0].type if found else "plain"
    said = [kind]
    if kind == "plain":
        said += [word for item in found for word in _shown(shell, item, incomplete, quotes)]
    sys.stdout.buffer.write(b"".join(os.fsencode(word) + b"\0" for word in said))


def split(line: str) -> tuple[list[str], str]:
    """Return the words of `line` without their quotes, and the quotes that are open at its end.

    The last word is the unfinished one, which may be empty.
    """
    words, quotes = [""], _BARE
    for token in _TOKEN.finditer(line):
        if token["space"] is not None:
            words.append("")
        elif token["ansi"] is not None:
            words[-1] += _without_escapes(token["ansi"])
            quotes = _BARE if token["ansi_end"] else _ANSI
        elif token["single"] is not None:
            words[-1] += token["single"]
            quotes = _BARE if token["single_end"] else _SINGLE
        elif token["double"] is not None:
            words[-1] += re.sub(r'\\([$`"\\])', r"\1", token["double"])
            quotes = _BARE if token["double_end"] else _DOUBLE
        else:
            words[-1] += token["escaped"] or token["bare"] or ""
    return words, quotes


def _without_escapes(text: str) -> str:
    r"""Return what stands between `$'` and `'`, with the escapes that `quote` makes resolved."""
    known = {escape[1]: char for char, escape in _NAMED.items()}

    def char(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if code[0] == "x" and code[1:] else known.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{1,2}|.)", char, text, flags=re.DOTALL)


def quote(text: str, quotes: str) -> str:
    """Return `text` as it has to stand in bash behind an open `quotes`."""
    if quotes == _DOUBLE and text.endswith("!"):
        # Before the quotes that bash adds, it is no history; and they must be missing.
        return quote(text[:-1], quotes) + "!"
    return "".join(_quoted(char, quotes) for char in text)


def _quoted(char: str, quotes: str) -> str:
    if quotes == _SINGLE:
        return r"'\''" if char == "'" else char
    if quotes == _DOUBLE:
        if char == "!":
            return "\"'!'\""
        return "\\" + char if char in '$`"\\' else char
    if char < " " or char == _LAST_ASCII:
        escape = _NAMED.get(char, f"\\x{ord(char):02x}")
        return escape if quotes == _ANSI else f"$'{escape}'"
    if quotes == _ANSI:
        return "\\" + char if char in "'\\" else char
    return char if _PLAIN.match(char) or char > _LAST_ASCII else "\\" + char


def _shown(shell: str, item: CompletionItem[str], incomplete: str, quotes: str) -> list[str]:
    """Return the words of the answer for one candidate."""
    if shell == "bash":
        # Of an option with its value behind a =, click completes the value alone.
        typed = incomplete if item.value.startswith(incomplete) else incomplete.partition("=")[2]
        return [quote(item.value[len(typed) :], quotes)]
    description = " ".join((item.help or "").split())
    if shell == "zsh":
        return [item.value, description]
    return [] if "\t" in item.value else [f"{item.value}\t{description}".rstrip("\t")]
