"""What is offered while a command line is typed, without a shell; and quoting, with bash."""

import os
import subprocess

import pytest

import kvfs
from kvfs.cli import candidates
from kvfs.cli.completion import answer, quote, split
from kvfs.cli.main import cli

NASTY = [
    "plain",
    "a b",
    "it's",
    'x"y$z`w\\v!',
    "new\nline",
    "tab\there",
    "~home",
    "#hash",
    "a:b=c@d",
    "*?[x]{y,z}",
    "$(false);&|<>",
    "!bang!",
    "end!",
    "esc\x1b[0m\x7f",
    "zwölf",
    "\udcff\udcfe",
    "!",
    "\n",
]


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "s t"
    with kvfs.open(path) as opened:
        for key in ("a", "conf/b", "conf/c", "conf/d/e", "confused", "-dash", "x//y", "x/z"):
            opened.put(key, "1")
    return path


@pytest.fixture
def ask(capfdbinary):
    """Return a function: the answer to a shell."""

    def ask(shell, *words):
        import sys

        answer(cli, shell, list(words))
        sys.stdout.flush()
        said = capfdbinary.readouterr().out
        assert said.endswith(b"\0")
        return [os.fsdecode(word) for word in said[:-1].split(b"\0")]

    return ask


@pytest.mark.parametrize("opening", ["", "'", '"', "$'"])
def test_bash_takes_what_is_quoted_for_what_it_was(opening):
    lines, wanted = [], []
    for word in NASTY:
        for cut in range(len(word)):
            typed = opening + quote(word[:cut], opening)
            words, quotes = split(f"kvfs get s {typed}")
            if not (opening == '"' and "!" in word[:cut]):  # bash, not a script, knows of those
                assert words[-1] == word[:cut]
                assert quotes == opening
            whole = typed + quote(word[cut:], quotes) + opening.removeprefix("$")
            lines.append(f"printf '%s\\0' {whole}\n".encode("utf-8", "surrogateescape"))
            wanted.append(word)
    done = subprocess.run(["bash"], input=b"".join(lines), capture_output=True, check=True)
    assert [os.fsdecode(word) for word in done.stdout[:-1].split(b"\0")] == wanted
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("line", "words", "quotes"),
    [
        ("", [""], ""),
        ("kvfs ", ["kvfs", ""], ""),
        ("kvfs  get 'a b'c", ["kvfs", "get", "a bc"], ""),
        ("a '' ", ["a", "", ""], ""),
        ("a 'b", ["a", "b"], "'"),
        ('a "b\\"c', ["a", 'b"c'], '"'),
        ("a $'b\\nc\\'", ["a", "b\nc'"], "$'"),
        ("a b\\", ["a", "b"], ""),
        ("a\\ b \"c\"'d'\\'", ["a b", "cd'"], ""),
    ],
)
def test_words_of_a_line(line, words, quotes):
    assert split(line) == (words, quotes)


def test_keys_one_component_after_the_other(ask, store):
    assert ask("zsh", "get", str(store), "")[1::2] == ["a", "conf/", "confused", "x/"]
    assert ask("zsh", "get", str(store), "conf")[1::2] == ["conf/", "confused"]
    assert ask("zsh", "get", str(store), "conf/")[1::2] == ["conf/b", "conf/c", "conf/d/"]
    assert ask("zsh", "get", str(store), "conf/d/")[1::2] == ["conf/d/e"]
    assert ask("zsh", "get", str(store), "x/")[1::2] == ["x//", "x/z"]
    assert ask("zsh", "get", str(store), "x//")[1::2] == ["x//y"]
    assert ask("zsh", "get", str(store), "none")[1::2] == []
    assert ask("zsh", "get", str(store), "--", "-")[1::2] == ["-dash"]
    assert ask("zsh", "get", str(store), "-") == ask("zsh", "get", "none", "-")


def test_where_keys_are_offered(ask, store):
    for words in (
        ["put", str(store)],
        ["delete", str(store)],
        ["list", str(store)],
        ["log", str(store)],
        ["get", "--at", "1", str(store)],
        ["restore", "--at", "1", str(store), "conf/b"],
    ):
        assert "confused" in ask("zsh", *words, ""), words
    assert ask("zsh", "put", str(store), "a", "") == ["plain"]  # a value


def test_verbs_options_and_choices(ask):
    assert ask("zsh", "sna") == [
        "plain",
        "snapshot",
        "Give moments of a store names, for --at...",
    ]
    assert ask("fish", "snapshot", "c") == [
        "plain",
        "create\tLet NAME stand for STORE as it is now.",
    ]
    assert "--json" in ask("zsh", "list", "--")
    assert ask("bash", "kvfs init --format=b") == ["plain", "inary"]
    assert ask("bash", "kvfs init --format b") == ["plain", "inary"]
    assert ask("bash", "kvfs completion ") == ["plain", "bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["get", ""], "dir"),
        (["mount", "s", ""], "dir"),
        (["backup", "s", "x"], "dir"),
        (["import", "s", "x"], "file"),
        (["init", ""], "dir"),
    ],
)
def test_what_the_shell_knows_best(ask, words, kind):
    assert ask("zsh", *words) == [kind]


def test_snapshots_of_the_store(ask, store):
    from kvfs.store import snapshots

    for name in ("before", "after", "beyond"):
        snapshots.create(str(store), name)
    assert ask("zsh", "get", str(store), "a", "--at", "be")[1::2] == ["before", "beyond"]
    assert ask("bash", f"kvfs get '{store}' a --at=bef") == ["plain", "ore"]
    assert ask("zsh", "diff", str(store), "af")[1::2] == ["after"]
    assert ask("zsh", "diff", str(store), "after", "bef")[1::2] == ["before"]
    assert ask("zsh", "undo", str(store), "--to", "bef")[1::2] == ["before"]
    assert ask("zsh", "snapshot", "delete", str(store), "bey")[1::2] == ["beyond"]
    assert ask("zsh", "snapshot", "create", str(store), "bey")[1::2] == []


def test_the_store_may_be_named_as_the_shell_lets_one(ask, store, monkeypatch):
    monkeypatch.setenv("HOME", str(store.parent))
    monkeypatch.setenv("WHERE", str(store))
    assert ask("bash", "kvfs get ~/s\\ t confu") == ["plain", "sed"]
    assert ask("bash", "kvfs get $WHERE confu") == ["plain", "sed"]


@pytest.mark.parametrize("form", ["binary", "text"])
def test_no_store_no_keys_no_complaint(ask, tmp_path, form):
    (tmp_path / "empty").mkdir()
    for path in ("none", "empty"):
        assert ask("zsh", "get", str(tmp_path / path), "") == ["plain"]
    kvfs.init(tmp_path / "bad", format=form)
    (tmp_path / "bad" / "store.toml").write_text("nonsense")
    assert ask("zsh", "get", str(tmp_path / "bad"), "") == ["plain"]


def test_of_many_keys_what_they_have_in_common_is_right(tmp_path):
    with kvfs.open(tmp_path / "s") as opened:
        for number in range(2500):
            opened.put(f"key{number:04}", "1")
    found = [item.value for item in candidates.keys(str(tmp_path / "s"), "key")]
    assert len(found) == 1000
    assert (found[0], found[998], found[-1]) == ("key0000", "key0998", "key2499")
