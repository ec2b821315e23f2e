"""What the command line says of itself: help, examples, the manual page."""

import re
import shlex
import subprocess

import click
import pytest
from click.testing import CliRunner

from kvfs import __version__
from kvfs.cli.main import TOPICS, VERBS, cli

OPERATORS = {"|", "||", "&&", ">", "<", "<(", ")", ";"}


def commands(command=cli, path=()):
    """Yield every command below `command`, and the words that call it."""
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


ALL = dict(commands())


def examples(command):
    return re.findall(r"^  \$ (.*)$", command.epilog or "", re.MULTILINE)


def calls(line):
    """Return the arguments of each call of kvfs in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found, call, added = [], None, []
    for word in lexer:
        if word == "kvfs" and call is None:
            call = []
            found.append((call, added))
        elif word in OPERATORS:
            call = None
        elif call is not None:
            call.append(word)
        elif word == "xargs":
            added = ["what-xargs-adds"]
    return [words + more for words, more in found]


def parse(command, name, words):
    """Parse `words` as the arguments of `command`, without doing anything."""
    with command.make_context(name, list(words)) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            name, below, rest = command.resolve_command(context, rest)
            parse(below, name, rest)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_command_has_help_and_examples_that_parse(path):
    command = ALL[path]
    assert command.help
    lines = examples(command)
    assert lines, "no examples"
    shown = CliRunner().invoke(cli, [*path, "--help"]).stdout
    assert "Examples:" in shown
    for line in lines:
        assert f"$ {line}" in shown
        found = calls(line)
        assert any(tuple(words[: len(path)]) == path for words in found), line
        for words in found:
            parse(cli, "kvfs", words)


def test_an_example_that_does_not_parse_is_seen():
    for line in ("kvfs get store", "kvfs get store key --att 17", "kvfs gett store key"):
        with pytest.raises(click.UsageError):
            parse(cli, "kvfs", calls(line)[0])
    assert calls("kvfs list -0 s | xargs -0 kvfs get s > 'a b'") == [
        ["list", "-0", "s"],
        ["get", "s", "what-xargs-adds"],
    ]


def test_the_overview_has_every_verb_once_and_cuts_nothing():
    assert set(VERBS.values()) == set(TOPICS)
    shown = CliRunner().invoke(cli, ["--help"]).stdout
    for verb in VERBS:
        assert len(re.findall(rf"^  {verb} ", shown, re.MULTILINE)) == 1, verb
    assert "..." not in shown.replace("[ARGS]...", "")
    assert "130 interrupted" in shown
    assert CliRunner().invoke(cli, ["-h"]).stdout == shown


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_options_are_explained_and_named_alike(path):
    known = {"as_json": "--json", "at": "--at", "keep_history": "--keep-history", "null": "-0"}
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").endswith("."), parameter
            assert known.get(parameter.name, parameter.opts[0]) in parameter.opts
        else:
            assert parameter.make_metavar(click.Context(ALL[path])).strip("[].") in {
                *("STORE", "KEY", "VALUE", "PREFIX", "FILE", "DIRECTORY", "MOUNTPOINT"),
                *("NAME", "WHEN", "VERB", "STORE|MOUNTPOINT", "{bash|zsh|fish}"),
            }


def test_version():
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"kvfs {__version__}\n"


def test_help_of_a_verb_is_that_of_its_option():
    for words in ([], ["get"], ["snapshot"], ["snapshot", "create"]):
        wanted = CliRunner().invoke(cli, [*words, "--help"], prog_name="kvfs").stdout
        assert CliRunner().invoke(cli, ["help", *words], prog_name="kvfs").stdout == wanted
    assert CliRunner().invoke(cli, ["help", "get", "x"]).exit_code == 2
    assert "Did you mean 'get'?" in CliRunner().invoke(cli, ["help", "gett"]).stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["snaphsot"], "'snapshot'"),
        (["chekc"], "'check'"),
        (["snapshot", "crate"], "'create'"),
        (["compact", "--keep-hstory"], "'--keep-history'"),
    ],
)
def test_what_may_be_meant(words, meant):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert f"Did you mean {meant}?" in done.stderr


def test_what_is_like_nothing_has_no_suggestion():
    done = CliRunner().invoke(cli, ["xyzzy"])
    assert done.exit_code == 2
    assert "mean" not in done.stderr


def roff(*options):
    page = CliRunner().invoke(cli, ["man"]).stdout
    done = subprocess.run(
        ["groff", "-man", *options], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_the_manual_page_is_sound_roff():
    roff("-ww", "-z", "-Tutf8")


def test_the_manual_page_says_all_that_help_says():
    shown = roff("-Tascii", "-P-c", "-P-b", "-P-u", "-rLL=500n", "-rHY=0", "-dAD=l")
    words = " ".join(shown.split())
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "VERBS", "EXIT STATUS", "ENVIRONMENT"):
        assert f"\n{section}\n" in shown
    for path, command in ALL.items():
        usage = command.collect_usage_pieces(click.Context(command))
        assert " ".join(["kvfs", *path, *usage]) in words
        assert " ".join(command.help.split("\n\n")[0].split()) in words, path
        for line in examples(command):
            assert f" {line}\n" in shown, line
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[-1] in words
                assert " ".join(option.help.split()) in words
